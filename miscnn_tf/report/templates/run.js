"use strict";
(() => {
  const find = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const read = (id) => JSON.parse(document.getElementById(id).textContent);

  // ------------------------------------------------------------ the state of a run that goes on

  const status = find(".status");
  if (status && status.dataset.written) {
    const seconds = (Date.now() - Date.parse(status.dataset.written)) / 1000;
    if (seconds > 10 * Number(status.dataset.refresh) + 60) {
      status.classList.add("old");
      find("#age").textContent = `The page was last renewed ${Math.round(seconds / 60)} minutes ago: an epoch or a prediction ` +
        "takes long, or the program was ended. The same call continues the run; miscnn-tf report writes the page anew.";
    }
  }

  // ------------------------------------------------------------ the table of scores

  const table = find("#table");
  if (table) {
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const valueOf = (text) => {
      const plain = text.trim().replace("−", "-");
      if (plain === "–" || plain === "") return NaN;
      return plain.endsWith("∞") ? (plain.startsWith("-") ? -Infinity : Infinity) : Number(plain);
    };
    all("thead th", table).forEach((head, column) => {
      const label = find("[data-sort]", head);
      const isText = label.dataset.sort === "text";
      const keys = new Map(rows.map((row) => {
        const text = row.cells[column].textContent;
        return [row, isText ? text : valueOf(text)];
      }));
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = label.textContent;
      label.replaceWith(button);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const descending = head.getAttribute("aria-sort") === "ascending";
        all("thead th", table).forEach((other) => other.setAttribute("aria-sort", "none"));
        head.setAttribute("aria-sort", descending ? "descending" : "ascending");
        const sign = descending ? -1 : 1;
        const inOrder = [...rows].sort((a, b) => {
          const [first, second] = [keys.get(a), keys.get(b)];
          if (isText) return sign * first.localeCompare(second, undefined, { numeric: true });
          // What is not defined comes last, whichever way.
          if (Number.isNaN(first) || Number.isNaN(second)) return Number.isNaN(first) - Number.isNaN(second);
          return first === second ? 0 : sign * (first < second ? -1 : 1);
        });
        body.append(...inOrder);
      });
    });
    const classFilter = find("#class-filter");
    const caseFilter = find("#case-filter");
    const filter = () => {
      const part = caseFilter.value.trim().toLowerCase();
      let shown = 0;
      for (const row of rows) {
        const fits = classFilter.value === "" || row.dataset.class === classFilter.value ||
          (classFilter.value === "structures" && row.dataset.class !== "0");
        row.hidden = !(fits && row.cells[0].textContent.toLowerCase().includes(part));
        if (!row.hidden) shown += 1;
      }
      find("#shown-rows").textContent = `${shown} of ${rows.length} rows`;
    };
    classFilter.addEventListener("change", filter);
    caseFilter.addEventListener("input", filter);
    find("#filters").hidden = false;
    filter();
  }

  // ------------------------------------------------------------ the cases

  const viewer = find("#viewer");
  if (!viewer) return;
  const { classes, differences } = read("colours");
  const rgb = (colour) => [1, 3, 5].map((place) => parseInt(colour.slice(place, place + 2), 16));
  // As ImageData has them on every machine that browsers run on: the least byte is red.
  const packed = ([red, green, blue], alpha) => ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0;
  const colours = classes.map((one) => rgb(one.colour));
  const colourOf = (label) => colours[(label - 1) % colours.length];
  const [missed, extra, other] = [differences.missed, differences.extra, differences.other].map(rgb);
  const outline = packed(rgb(differences.outline), 240);

  const stage = find("#stage");
  const panels = find(".panels", viewer);
  const slider = find("#slice");
  const outlines = find("#outlines");
  const tabs = all("[role=tab]", viewer);
  const cases = tabs.map(() => null);
  let current = null;
  let position = 0;

  // Runs of (label, length), each a number of 7 bits per byte.
  function unpack(text, size) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const labels = new Uint16Array(size);
    let place = 0;
    const next = () => {
      let value = 0;
      let shift = 0;
      let byte;
      do {
        byte = bytes[place++];
        value |= (byte & 127) << shift;
        shift += 7;
      } while (byte & 128);
      return value;
    };
    for (let start = 0; place < bytes.length;) {
      const label = next();
      const end = start + next();
      labels.fill(label, start, end);
      start = end;
    }
    return labels;
  }

  function load(number) {
    cases[number] ??= read(`case-${number}`);
    return cases[number];
  }

  // Label maps and pictures only of what is looked at: a phone has not much memory.
  function mapsOf(slice, { width, height }) {
    const open = (text) => (text === null ? null : unpack(text, width * height));
    return { truth: open(slice.truth), prediction: open(slice.prediction) };
  }

  function pictureOf(slice) {
    if (slice && slice.image !== null && !slice.picture) {
      slice.picture = new Image();
      slice.picture.src = slice.image;
    }
    return slice ? slice.picture : undefined;
  }

  function differing(slice, size) {
    const { truth, prediction } = mapsOf(slice, size);
    let count = 0;
    if (truth && prediction) {
      for (let place = 0; place < truth.length; place++) count += truth[place] !== prediction[place];
    }
    return count;
  }

  // The colour of each pixel of a panel that lies over the image; 0 where there is none.
  function layer(kind, maps, size, scale) {
    const { width, height, colours: isColour } = size;
    const [across, down] = [width * scale, height * scale];
    const pixels = new Uint32Array(across * down);
    const { truth, prediction } = maps;
    const shown = kind === "truth" ? truth : prediction;
    const only = outlines.checked;
    const opacity = Math.round(255 * (isColour ? differences.opacity : 0.46));
    const fill = classes.map((_, number) => packed(colours[number], opacity));
    const line = classes.map((_, number) => packed(colours[number], 255));
    const thick = Math.max(1, Math.round(Math.max(across, down) / 420));
    const at = (labels, x, y) => labels[Math.min(height - 1, (y / scale) | 0) * width + Math.min(width - 1, (x / scale) | 0)];
    // Whether a pixel lies at the inner side of the border of its class.
    const border = (labels, x, y, label) =>
      (x >= thick && at(labels, x - thick, y) !== label) || (x + thick < across && at(labels, x + thick, y) !== label) ||
      (y >= thick && at(labels, x, y - thick) !== label) || (y + thick < down && at(labels, x, y + thick) !== label);
    for (let y = 0; y < down; y++) {
      for (let x = 0; x < across; x++) {
        const place = y * across + x;
        if (kind === "difference") {
          const [is, was] = [at(truth, x, y), at(prediction, x, y)];
          if (is !== was) pixels[place] = packed(was === 0 ? missed : is === 0 ? extra : other, 205);
          continue;
        }
        const label = at(shown, x, y);
        if (label) {
          const number = (label - 1) % colours.length;
          if (!only) pixels[place] = fill[number];
          else if (border(shown, x, y, label)) pixels[place] = line[number];
        }
        if (kind === "prediction" && truth) {
          const real = at(truth, x, y);
          if (real && border(truth, x, y, real)) pixels[place] = outline;
        }
      }
    }
    return new ImageData(new Uint8ClampedArray(pixels.buffer), across, down);
  }

  const spare = document.createElement("canvas");
  const grey = document.createElement("canvas");

  // A picture in the window of its case. Its grey values mean intensities, linear between those of the scale.
  function windowed(picture, { pictures, shown }) {
    if (!picture || !picture.complete || !picture.naturalWidth) return null;
    if (!shown) return picture;
    const { greys, values } = pictures.scale;
    const [low, high] = shown;
    const table = new Uint8ClampedArray(256);
    for (let part = 0, code = 0; code < 256; code++) {
      while (part < greys.length - 2 && code > greys[part + 1]) part++;
      const share = (code - greys[part]) / (greys[part + 1] - greys[part]);
      const value = values[part] + share * (values[part + 1] - values[part]);
      table[code] = 255 * (value - low) / (high - low);
    }
    grey.width = pictures.width;
    grey.height = pictures.height;
    const context = grey.getContext("2d", { willReadFrequently: true });
    context.drawImage(picture, 0, 0, grey.width, grey.height);
    const image = context.getImageData(0, 0, grey.width, grey.height);
    for (let place = 0; place < image.data.length; place += 4) {
      image.data[place] = image.data[place + 1] = image.data[place + 2] = table[image.data[place + 1]];
    }
    context.putImageData(image, 0, 0);
    return grey;
  }

  function draw(canvas, kind, picture, maps, size, longest) {
    const scale = Math.max(1, Math.ceil(longest / Math.max(size.width, size.height)));
    canvas.width = size.width * scale;
    canvas.height = size.height * scale;
    const context = canvas.getContext("2d");
    context.fillStyle = "#000";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.imageSmoothingQuality = "high";
    if (picture) context.drawImage(picture, 0, 0, canvas.width, canvas.height);
    const needed = { truth: maps.truth, prediction: maps.prediction, difference: maps.truth && maps.prediction };
    if (kind === "image" || !needed[kind]) return;
    spare.width = canvas.width;
    spare.height = canvas.height;
    spare.getContext("2d").putImageData(layer(kind, maps, size, scale), 0, 0);
    context.drawImage(spare, 0, 0);
  }

  function show() {
    const { pictures, name } = current;
    const slice = pictures.slices[position];
    const picture = pictureOf(slice);
    const maps = mapsOf(slice, pictures);
    const place = pictures.slices.length > 1 ? `, slice ${slice.number}` : "";
    const paint = () => {
      if (current.pictures.slices[position] !== slice) return;  // paged on meanwhile
      const source = windowed(picture, current);
      for (const panel of all(".panel", panels)) {
        if (panel.hidden || (panels.classList.contains("one") && !panel.classList.contains("chosen"))) continue;
        const canvas = find("canvas", panel);
        draw(canvas, panel.dataset.panel, source, maps, pictures, 560);
        canvas.setAttribute("aria-label", `${find("figcaption", panel).textContent.trim()}, ${name}${place}`);
      }
      viewer.dataset.painted = slice.number;
    };
    if (picture && !picture.complete) picture.decode().then(paint, paint);
    else paint();
    for (const near of [-1, 1, 2]) pictureOf(pictures.slices[position + near]);
    slider.value = position;
    const text = pictures.slices.length > 1 ? `slice ${slice.number}` : "";
    slider.setAttribute("aria-valuetext", text);
    find("#where").textContent = text && `${text}  (${position + 1} of ${pictures.slices.length})`;
    find("#back").disabled = position === 0;
    find("#forth").disabled = position === pictures.slices.length - 1;
    viewer.dataset.slice = slice.number;
    drawErrors();
  }

  function drawErrors() {
    const canvas = find("#errors");
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.max(1, canvas.clientWidth * ratio);
    canvas.height = Math.max(1, canvas.clientHeight * ratio);
    const context = canvas.getContext("2d");
    const errors = current.errors;
    const most = Math.max(1, ...errors);
    // The middle of the slider's knob moves from half its width to the width less that.
    const inset = 8 * ratio;
    const step = errors.length > 1 ? (canvas.width - 2 * inset) / (errors.length - 1) : 0;
    const bar = Math.max(ratio, Math.min(10 * ratio, step * 0.7));
    errors.forEach((count, number) => {
      const high = Math.max(count ? ratio : 0, (count / most) * (canvas.height - 2 * ratio));
      context.fillStyle = number === position ? "#6fc1ee" : "#4a5663";
      context.fillRect(inset + number * step - bar / 2, canvas.height - high, bar, high);
    });
  }

  function move(to) {
    const target = Math.max(0, Math.min(current.pictures.slices.length - 1, to));
    if (target === position) return false;
    position = target;
    show();
    return true;
  }

  // ------------------------------------------------------------ level and width of the window

  const tools = find("#window");
  const [preset, level, width] = ["#preset", "#level", "#width"].map((id) => find(id));
  const presets = { soft: [40, 400], lung: [-600, 1500], bone: [400, 1800], brain: [40, 80], liver: [60, 160] };

  // What is shown as black and white at first; null for colour images, which have no window.
  const usual = ({ scale }) => (scale ? [...scale.levels] : null);

  function number(value, span) {
    return span >= 20 ? String(Math.round(value)) : value.toPrecision(3);
  }

  function showWindow() {
    tools.hidden = !current.shown;
    panels.classList.toggle("windowed", !tools.hidden);
    if (tools.hidden) return;
    const { values, modality } = current.pictures.scale;
    const [low, high] = current.shown;
    const span = values[values.length - 1] - values[0];
    const unit = modality === "CT" ? " HU" : "";
    for (const [input, least, most, value] of [
      [level, values[0], values[values.length - 1], (low + high) / 2], [width, span / 100, 1.5 * span, high - low],
    ]) {
      input.min = least;
      input.max = most;
      input.step = span / 500;
      input.value = value;
      input.setAttribute("aria-valuetext", number(value, span) + unit);
      find(`#${input.id}-text`).textContent = number(value, span) + unit;
    }
    for (const option of preset.options) option.hidden = option.disabled = option.value in presets && modality !== "CT";
    const same = (one, other) => Math.abs(one - other) < span / 1000;
    const fits = (name) => {
      const [middle, whole] = presets[name] || [];
      const [black, white] = name in presets ? [middle - whole / 2, middle + whole / 2] : usual(current.pictures);
      return same(low, black) && same(high, white);
    };
    preset.value = ["usual", ...Object.keys(presets)].find((name) => (name === "usual" || modality === "CT") && fits(name)) || "own";
  }

  function setWindow(middle, whole) {
    const { values } = current.pictures.scale;
    const [least, most] = [values[0], values[values.length - 1]];
    const half = Math.max(whole, (most - least) / 1000) / 2;
    const centre = Math.min(most, Math.max(least, middle));
    current.shown = [centre - half, centre + half];
    showWindow();
    show();
  }

  function resetWindow() {
    current.shown = usual(current.pictures);
    showWindow();
    show();
  }

  for (const input of [level, width]) {
    input.addEventListener("input", () => setWindow(
      input === level ? Number(level.value) : (current.shown[0] + current.shown[1]) / 2,
      input === width ? Number(width.value) : current.shown[1] - current.shown[0],
    ));
  }
  preset.addEventListener("change", () => (preset.value in presets ? setWindow(...presets[preset.value]) : resetWindow()));

  function open(number) {
    current = load(number);
    const { pictures } = current;
    if (current.shown === undefined) current.shown = usual(pictures);
    showWindow();
    current.errors ??= pictures.slices.map((slice) => differing(slice, pictures));
    tabs.forEach((tab, place) => {
      tab.setAttribute("aria-selected", String(place === number));
      tab.tabIndex = place === number ? 0 : -1;
    });
    viewer.dataset.case = current.name;
    find("#stage-title").textContent = current.fold === null ? current.name : `${current.name}, fold ${current.fold}`;
    find("#stage-scores").textContent = current.dice.map((one) => `${one.name} ${one.dice}`).join(" · ");
    find("#stage-problems").textContent = pictures.problems.join(" ");
    const [{ truth, prediction }] = pictures.slices;
    const has = { image: true, truth: truth !== null, prediction: prediction !== null };
    has.difference = has.truth && has.prediction;
    let panelsShown = 0;
    for (const panel of all(".panel", panels)) {
      panel.hidden = !has[panel.dataset.panel];
      panelsShown += !panel.hidden;
      const frame = find(".frame", panel);
      ["left", "right", "top", "bottom"].forEach((side, place) => {
        find(`.${side}`, frame).textContent = pictures.sides ? pictures.sides[place] : "";
      });
    }
    if (panels.classList.contains("one") && find(".chosen", panels).hidden) enlarge(find(".chosen", panels), false);
    panels.classList.toggle("two", panelsShown === 2);
    all(".of-both", viewer).forEach((item) => { item.hidden = !has.difference; });
    find(".controls", viewer).hidden = pictures.slices.length === 1;
    find("#stage-help").hidden = pictures.slices.length === 1;
    slider.max = pictures.slices.length - 1;
    position = pictures.start;
    show();
  }

  function enlarge(panel, large) {
    all(".panel", panels).forEach((one) => {
      one.classList.toggle("chosen", large && one === panel);
      find(".enlarge", one).setAttribute("aria-pressed", String(large && one === panel));
    });
    panels.classList.toggle("one", large);
  }

  tabs.forEach((tab, number) => {
    tab.addEventListener("click", () => open(number));
    tab.addEventListener("keydown", (event) => {
      const steps = { ArrowRight: 1, ArrowLeft: -1 };
      const target = event.key === "Home" ? 0 : event.key === "End" ? tabs.length - 1 :
        event.key in steps ? (number + steps[event.key] + tabs.length) % tabs.length : null;
      if (target === null) return;
      event.preventDefault();
      open(target);
      tabs[target].focus();
    });
  });
  slider.addEventListener("input", () => move(Number(slider.value)));
  find("#back").addEventListener("click", () => move(position - 1));
  find("#forth").addEventListener("click", () => move(position + 1));
  outlines.addEventListener("change", show);
  all(".enlarge", panels).forEach((button) => {
    button.addEventListener("click", () => {
      enlarge(button.closest(".panel"), button.getAttribute("aria-pressed") !== "true");
      show();
    });
  });
  stage.addEventListener("keydown", (event) => {
    if (event.target.matches("input, select") || event.ctrlKey || event.altKey || event.metaKey) return;
    const steps = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 5, PageDown: -5 };
    if (event.key in steps) move(position + steps[event.key]);
    else if (event.key === "Home") move(0);
    else if (event.key === "End") move(current.pictures.slices.length - 1);
    else return;
    event.preventDefault();
  });

  // The wheel pages once the mouse has been moved over the pictures: who scrolls down the page and comes past them
  // is not caught. At the ends the page scrolls on.
  let meant = false;
  window.addEventListener("scroll", () => { meant = false; }, { passive: true });
  panels.addEventListener("mousemove", () => { meant = true; });
  panels.addEventListener("mouseleave", () => { meant = false; });
  let turned = 0;
  panels.addEventListener("wheel", (event) => {
    if (!meant || event.ctrlKey) return;
    turned += event.deltaMode === 0 ? event.deltaY : event.deltaY * 40;
    if (Math.abs(turned) < 30) return event.preventDefault();
    const step = Math.sign(turned);
    turned = 0;
    if (move(position - step)) event.preventDefault();
  }, { passive: false });

  // A finger pages; the mouse changes the window, as in viewers of radiologists: up and down its level, left and right
  // its width.
  let began = null;
  panels.addEventListener("pointerdown", (event) => {
    const isMouse = event.pointerType === "mouse";
    if (event.target.closest("button") || (isMouse && (event.button !== 0 || !current.shown))) return;
    began = { isMouse, x: event.clientX, y: event.clientY, position, shown: current.shown };
    if (isMouse) {
      event.preventDefault();
      stage.focus({ preventScroll: true });
      panels.setPointerCapture(event.pointerId);
    }
  });
  panels.addEventListener("pointermove", (event) => {
    if (!began) return;
    const [across, down] = [event.clientX - began.x, event.clientY - began.y];
    if (!began.isMouse) return move(began.position + Math.round(across / 12));
    const [low, high] = began.shown;
    setWindow((low + high) / 2 + (down / 300) * (high - low), (high - low) * Math.exp(across / 300));
  });
  for (const end of ["pointerup", "pointercancel"]) panels.addEventListener(end, () => { began = null; });
  panels.addEventListener("dblclick", (event) => {
    if (current.shown && !event.target.closest("button")) resetWindow();
  });
  window.addEventListener("resize", () => { if (current) drawErrors(); });

  all("a[data-case]").forEach((link) => link.addEventListener("click", () => open(Number(link.dataset.case))));

  // Small pictures of all cases, when there is time for them.
  function thumbnails(number) {
    if (number === tabs.length) return;
    const { pictures } = load(number);
    const slice = pictures.slices[pictures.start];
    const picture = pictureOf(slice);
    const paint = () => {
      const canvas = find("canvas", tabs[number]);
      const source = windowed(picture, { pictures, shown: usual(pictures) });
      draw(canvas, slice.prediction === null ? "truth" : "prediction", source, mapsOf(slice, pictures), pictures, 88);
      // Square, cut at the longer side.
      canvas.style.objectFit = "cover";
      setTimeout(thumbnails, 0, number + 1);
    };
    if (picture) picture.decode().then(paint, paint);
    else paint();
  }

  viewer.hidden = false;
  open(0);
  setTimeout(thumbnails, 0, 0);
})();
