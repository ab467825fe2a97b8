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

from miscnn_tf.report.run_page import write_report

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")

pytestmark = pytest.mark.skipif(not (BROWSER and DRIVER), reason="no chromium with chromedriver is installed")

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1280,900",
)  # fmt: skip
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
    truth, difference = pixels(browser, "truth").astype(int), pixels(browser, "difference").astype(int)
    orange = (truth[..., 0] - truth[..., 2]) > 40  # #E69F00
    blue = (truth[..., 2] - truth[..., 0]) > 40  # #56B4E9
    # Rows run from anterior down to posterior, columns to the patient's left, as radiologists look: the array's first
    # axis points to the left, its second one to anterior. Shown are 32 mm at least around the structure.
    rows, columns = np.nonzero(orange | blue)
    scale = truth.shape[0] / 20
    assert 4 * scale - 2 <= rows.min()
    assert rows.max() <= 16 * scale + 2
    assert 0 < blue.sum() < orange.sum()
    assert blue.sum() == pytest.approx(4 * 4 * scale**2, rel=0.1)
    missed = (difference[..., 2] - difference[..., 0]) > 60
    other = ((difference[..., 0] - difference[..., 1]) > 40) & ((difference[..., 2] - difference[..., 1]) > 20)
    assert missed.sum() == pytest.approx(2 * 12 * scale**2, rel=0.15)
    assert other.sum() == pytest.approx(4 * 4 * scale**2, rel=0.15)
    assert abs(np.nonzero(missed)[1].mean() - columns.min()) < 4 * scale
    letters = [browser.find_element(By.CSS_SELECTOR, f"[data-panel=image] .{side}").text for side in
               ("left", "right", "top", "bottom")]  # fmt: skip
    assert letters == ["R", "L", "A", "P"]


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
