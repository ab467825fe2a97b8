"""The page in a real browser: Debian's chromium, without a network."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from miscnn_tf.data_loading.formats.nifti_writer import write_nifti
from miscnn_tf.report.run_page import write_page, write_report
from miscnn_tf.runs.training_progress import TrainingProgress

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")

pytestmark = pytest.mark.skipif(not (BROWSER and DRIVER), reason="no chromium with chromedriver is installed")

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1280,900",
)  # fmt: skip
AFFINE = np.diag([-1.0, 1.0, 3.0, 1.0])
HOSTILE = "<img src=x onerror=document.title=1>'\"&"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER or ""
    with tempfile.TemporaryDirectory() as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = webdriver.Chrome(options=options, service=Service(DRIVER, env=dict(os.environ)))
        driver.set_page_load_timeout(60)
        yield driver
        driver.quit()


@pytest.fixture
def opened(browser, make_run):
    """Opens the page of a run at a width, and finds out at the end that nothing was loaded and nothing went wrong."""

    def do(page: Path, width: int = 1280, height: int = 900) -> Any:
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
        )
        browser.get("about:blank")
        browser.get_log("performance"), browser.get_log("browser")
        browser.get(page.as_uri())
        return browser

    yield do
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert [url for url in sent if not url.startswith(("file:", "data:"))] == []
    assert sum(url.startswith("file:") for url in sent) == 1
    told = [entry["message"] for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    assert [message for message in told if "readback" not in message] == []  # it is these tests that read pixels


def wait(browser, condition: str) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 20, poll_frequency=0.05).until(lambda driver: driver.execute_script(f"return {condition}"))


def wait_for_frames(browser) -> None:
    """Until the browser has drawn twice: a page learns of its scrolling with the next frame, on a busy machine late."""
    browser.execute_async_script("const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done))")


def shown_slice(browser) -> int:
    wait(browser, "viewer.dataset.slice === viewer.dataset.painted")
    return int(browser.execute_script("return viewer.dataset.slice"))


def pixels(browser, panel: str) -> np.ndarray:
    """What a canvas shows, RGB."""
    script = (
        "const c = document.querySelector(arguments[0]); return [c.width, c.height,"
        "Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)]"
    )
    width, height, data = browser.execute_script(script, f'[data-panel="{panel}"] canvas')
    return np.array(data, np.uint8).reshape(height, width, 4)[..., :3]


def painted(picture: np.ndarray, colour: str) -> np.ndarray:
    """Where a picture has the hue of a colour."""
    wanted = np.array(list(bytes.fromhex(colour[1:])), float)
    hues = [one - one.mean(axis=-1, keepdims=True) for one in (picture.astype(float), wanted)]
    lengths = [np.linalg.norm(one, axis=-1) for one in hues]
    return (hues[0] @ hues[1] > 0.95 * lengths[0] * lengths[1]) & (lengths[0] > 40)


def column(browser, number: int) -> list[str]:
    script = (
        "return [...document.querySelectorAll('#table tbody tr:not([hidden])')]"
        f".map(row => row.cells[{number}].textContent)"
    )
    return browser.execute_script(script)


def test_a_case_is_paged_through_by_every_means(opened, make_run):
    from selenium.webdriver import ActionChains, Keys
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin
    from selenium.webdriver.common.by import By

    browser = opened(write_report(make_run()))
    first = shown_slice(browser)
    before = pixels(browser, "prediction")
    browser.find_element(By.ID, "forth").click()
    assert shown_slice(browser) == first + 1
    assert not np.array_equal(before, pixels(browser, "prediction"))
    browser.find_element(By.ID, "back").click()
    assert shown_slice(browser) == first
    assert np.array_equal(before, pixels(browser, "prediction"))
    stage = browser.find_element(By.ID, "stage")
    stage.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_UP)
    assert shown_slice(browser) == first + 2
    stage.send_keys(Keys.HOME)
    assert shown_slice(browser) == 2  # two slices below the structure
    browser.find_element(By.ID, "slice").send_keys(Keys.ARROW_RIGHT)
    assert shown_slice(browser) == 3
    panels = browser.find_element(By.CSS_SELECTOR, ".panels")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", panels)
    wait_for_frames(browser)
    pointer = ActionChains(browser).move_to_element(panels).pause(0.2).move_by_offset(5, 5)
    pointer.scroll_from_origin(ScrollOrigin.from_element(panels), 0, -120).perform()
    wait(browser, "viewer.dataset.slice === '4'")
    assert "slice 4" in browser.find_element(By.ID, "where").text


def test_the_pictures_show_truth_and_prediction_where_they_are(opened, make_run):
    from selenium.webdriver import Keys
    from selenium.webdriver.common.by import By

    def predict(place: int, truth: np.ndarray) -> np.ndarray:
        prediction = truth.copy()
        prediction[8:12, 8:12, 6:9] = 1  # the lesion is taken for the organ
        prediction[4:6] = 0  # and a part is missed
        return prediction

    browser = opened(write_report(make_run(["a", "b"], predict=predict)))
    stage = browser.find_element(By.ID, "stage")
    while shown_slice(browser) < 7:
        stage.send_keys(Keys.ARROW_RIGHT)
    truth, difference = pixels(browser, "truth"), pixels(browser, "difference")
    orange, blue = painted(truth, "#E69F00"), painted(truth, "#56B4E9")
    # Rows run from anterior down to posterior, columns to the patient's left, as radiologists look: the array's first
    # axis points to the left, its second one to anterior. Shown are 32 mm at least around the structure.
    rows, columns = np.nonzero(orange | blue)
    scale = truth.shape[0] / 20
    assert 4 * scale - 2 <= rows.min()
    assert rows.max() <= 16 * scale + 2
    assert 0 < blue.sum() < orange.sum()
    assert blue.sum() == pytest.approx(4 * 4 * scale**2, rel=0.1)
    differences = browser.execute_script(
        "return JSON.parse(document.querySelector('#colours').textContent).differences"
    )
    missed, other = painted(difference, differences["missed"]), painted(difference, differences["other"])
    assert missed.sum() == pytest.approx(2 * 12 * scale**2, rel=0.15)
    assert other.sum() == pytest.approx(4 * 4 * scale**2, rel=0.15)
    assert abs(np.nonzero(missed)[1].mean() - columns.min()) < 4 * scale
    letters = [browser.find_element(By.CSS_SELECTOR, f"[data-panel=image] .{side}").text for side in
               ("left", "right", "top", "bottom")]  # fmt: skip
    assert letters == ["R", "L", "A", "P"]


def test_level_and_width_of_the_window_are_changed_by_sliders_presets_and_mouse(opened, make_run, tmp_path):
    from selenium.webdriver import ActionChains, Keys
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select

    folder = make_run(["a", "b", "c"])
    for name in ("a", "b", "c"):  # Hounsfield units: air, the body, bone
        path = tmp_path / "data" / name / "imaging.nii.gz"
        image = np.full((24, 20, 16), 40, np.int16)
        image[:3], image[-3:] = -1000, 1200
        image[4:20, 4:16, 4:12] = 120
        write_nifti(path, image, {"affine": AFFINE})
    browser = opened(write_report(folder))
    shown_slice(browser)
    preset, level, width = (browser.find_element(By.ID, name) for name in ("preset", "level", "width"))
    assert Select(preset).first_selected_option.text == "automatic"
    usual = pixels(browser, "image")
    Select(preset).select_by_visible_text("bone")
    assert browser.find_element(By.ID, "level-text").text == "400 HU"
    assert browser.find_element(By.ID, "width-text").text == "1800 HU"
    bone = pixels(browser, "image")
    # -500 is black and 1300 white, linear between: the body is dark, bone bright, and both grey.
    middle = bone[bone.shape[0] // 2, :, 0]
    assert np.median(middle) == pytest.approx(255 * (120 + 500) / 1800, abs=12)
    assert middle.max() == pytest.approx(255 * (1200 + 500) / 1800, abs=12)
    assert middle.min() < 6
    level.send_keys(Keys.ARROW_RIGHT)
    assert Select(preset).first_selected_option.text == "own"
    width.send_keys(Keys.END)
    assert pixels(browser, "image").std() < bone.std()
    canvas = browser.find_element(By.CSS_SELECTOR, "[data-panel=image] canvas")
    before = browser.find_element(By.ID, "level-text").text
    ActionChains(browser).move_to_element(canvas).click_and_hold().move_by_offset(-60, 30).release().perform()
    assert browser.find_element(By.ID, "level-text").text != before
    # The next case has its own window; the first one keeps its.
    tabs = browser.find_elements(By.CSS_SELECTOR, "[role=tab]")
    tabs[1].click()
    assert Select(preset).first_selected_option.text == "automatic"
    tabs[0].click()
    assert Select(preset).first_selected_option.text == "own"
    ActionChains(browser).double_click(canvas).perform()
    assert Select(preset).first_selected_option.text == "automatic"
    assert np.array_equal(pixels(browser, "image"), usual)


def test_images_speak_of_images_and_have_no_slices(opened, make_run):
    from selenium.webdriver.common.by import By

    browser = opened(write_report(make_run(two_dim=True)))
    shown_slice(browser)
    visible = browser.find_element(By.TAG_NAME, "main").text.lower()
    for word in ("slice", "voxel", "volume"):
        assert word not in visible
    assert "slice" not in browser.find_element(By.CSS_SELECTOR, "[data-panel=image] canvas").get_attribute("aria-label")
    assert browser.find_element(By.ID, "window").is_displayed()  # of grey images
    assert [option.text for option in browser.find_elements(By.CSS_SELECTOR, "#preset option:not([hidden])")] == [
        "automatic", "own",
    ]  # fmt: skip


def test_a_page_of_a_killed_run_says_that_it_is_old(opened, make_run):
    from selenium.webdriver.common.by import By

    folder = make_run()
    (folder / "fold_1" / "completed.json").unlink()
    TrainingProgress(4, 10, 2.0, 12.0, None, "2026-01-01T00:00:00+00:00").write(folder / "fold_1")
    browser = opened(write_page(folder, draw=False, refresh=60).path)
    assert "minutes ago" in browser.find_element(By.ID, "age").text


def test_the_table_sorts_and_filters(opened, make_run):
    from selenium.webdriver import Keys
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select

    browser = opened(
        write_report(make_run(predict=lambda place, truth: truth * 0 if place == 3 else np.roll(truth, place, 0)))
    )
    assert set(column(browser, 2)) == {"organ", "lesion"}  # the background is left out at first
    head = browser.find_elements(By.CSS_SELECTOR, "#table thead th")
    names = [one.text.split("\n")[0] for one in head]
    dice, distance = names.index("Dice"), next(i for i, name in enumerate(names) if name.startswith("HD95"))
    head[dice].find_element(By.TAG_NAME, "button").click()
    assert head[dice].get_attribute("aria-sort") == "ascending"
    values = [float(text) for text in column(browser, dice)]
    assert values == sorted(values)
    assert len(set(values)) > 5
    button = head[distance].find_element(By.TAG_NAME, "button")
    button.send_keys(Keys.ENTER)
    button.send_keys(Keys.ENTER)
    assert head[distance].get_attribute("aria-sort") == "descending"
    assert head[dice].get_attribute("aria-sort") == "none"
    texts = column(browser, distance)
    assert texts[:2] == ["∞", "∞"]
    numbers = [float(text) for text in texts if text not in "∞–"]
    assert numbers == sorted(numbers, reverse=True)
    head[0].find_element(By.TAG_NAME, "button").click()
    assert column(browser, 0) == sorted(column(browser, 0))
    Select(browser.find_element(By.ID, "class-filter")).select_by_visible_text("lesion")
    assert set(column(browser, 2)) == {"lesion"}
    browser.find_element(By.ID, "case-filter").send_keys("E_5")
    assert column(browser, 0) == ["case_5"]
    assert browser.find_element(By.ID, "shown-rows").text == "1 of 24 rows"


def test_other_cases_are_opened_by_tab_key_and_link(opened, make_run):
    from selenium.webdriver import Keys
    from selenium.webdriver.common.by import By

    browser = opened(write_report(make_run()))
    tabs = browser.find_elements(By.CSS_SELECTOR, "[role=tab]")
    assert len(tabs) == 7
    worst = browser.execute_script("return viewer.dataset.case")
    assert worst == "case_5"
    tabs[-1].click()
    assert browser.execute_script("return viewer.dataset.case") in ("case_0", "case_6")  # both are perfect
    assert tabs[-1].get_attribute("aria-selected") == "true"
    tabs[-1].send_keys(Keys.ARROW_LEFT)
    assert browser.execute_script("return document.activeElement.id") == "tab-5"
    link = browser.find_element(By.CSS_SELECTOR, '#table a[data-case="0"]')
    browser.execute_script("arguments[0].click()", link)
    assert browser.execute_script("return viewer.dataset.case") == worst
    browser.find_element(By.CSS_SELECTOR, "[data-panel=truth] .enlarge").click()
    shown = [
        one.get_attribute("data-panel") for one in browser.find_elements(By.CLASS_NAME, "panel") if one.is_displayed()
    ]
    assert shown == ["truth"]
    # Not stretched: the picture is square, its frame is not.
    frame, style = browser.execute_script(
        "const c = document.querySelector('[data-panel=truth] canvas');"
        "return [[c.clientWidth, c.clientHeight], getComputedStyle(c).objectFit]"
    )
    assert frame[0] > 1.2 * frame[1]
    assert style == "contain"


@pytest.mark.parametrize("two_dim", [False, True], ids=["3D", "2D"])
@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_is_no_wider_than_the_screen(opened, make_run, width, two_dim):
    from selenium.webdriver.common.by import By

    names = [f"a_rather_long_name_of_a_case_from_a_hospital_{number}" for number in range(3)]
    browser = opened(write_report(make_run(names, two_dim=two_dim)), width)
    shown_slice(browser)
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    assert browser.execute_script("return innerWidth") == width
    assert browser.find_element(By.CSS_SELECTOR, ".controls").is_displayed() is not two_dim
    assert pixels(browser, "image").std() > 5
    # What is wider scrolls in its own box.
    assert browser.execute_script("const b = document.querySelector('.tall'); return b.scrollWidth >= b.clientWidth")


def test_hostile_names_stay_text(opened, make_run):
    names = [f"</script><b>{number}" for number in range(3)] if os.name == "nt" else ["<b>a", "&lt;'\"", "c"]
    run = make_run(names, class_names=("background", HOSTILE, "</script><script>document.title=1</script>"),
                   settings={"<script>": "</table><script>document.title=1</script>"})  # fmt: skip
    browser = opened(write_report(run))
    shown_slice(browser)
    assert browser.title == "2-fold cross-validation of 3 cases"
    assert not browser.execute_script("return document.querySelectorAll('main img, main b:not(.frame b)').length")
    assert HOSTILE in browser.execute_script("return document.querySelector('.legend').textContent")
