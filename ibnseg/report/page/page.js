'use strict';
// Draws the report's charts, tables and photos from the JSON in the page. Names come from strangers:
// they go into the page as text nodes and attribute values only, never as HTML.
(() => {
  const data = JSON.parse(document.getElementById('data').textContent);
  const SHAPES = ['M0-5A5 5 0 1 1-.01-5Z', 'M-4.5-4.5h9v9h-9Z', 'M0-5.5 5.5 4.5h-11Z', 'M0-6 6 0 0 6-6 0Z'];
  const KINDS = { clear: 'clear', 'clear over images': 'images', 'not clear': 'not', unknown: 'unknown' };
  const IGNORED = 255;
  const other = data.models.findIndex((_, model) => model !== data.baseline);
  const state = {
    domain: null, // number of the only one shown, or null
    cls: null,
    hidden: new Set(), // models
    a: data.baseline,
    b: data.best !== data.baseline || other < 0 ? data.best : other,
    why: null, // which photos
    sort: new Map(), // group -> [column, descending]
    folded: new Map(), // what the reader opened or closed: section and title -> open
  };

  // Elements.

  function el(tag, attributes = {}, ...children) {
    const svg = tag.startsWith('svg:');
    const node = svg
      ? document.createElementNS('http://www.w3.org/2000/svg', tag.slice(4))
      : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (typeof value === 'function') node.addEventListener(name, value);
      else if (value === true) node.setAttribute(name, '');
      else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
    }
    node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
    return node;
  }

  const OPEN = 3; // parts of a section that are open at first

  /** Part of a section under its title; of many, those after the first are folded. */
  function part(section, name, rank, ...children) {
    const key = `${section}/${name}`;
    return el('details', {
      class: 'part', open: state.folded.get(key) ?? rank < OPEN,
      toggle: (event) => state.folded.set(key, event.target.open),
    }, el('summary', {}, el('h3', {}, name)), children);
  }

  const place = (id) => document.getElementById(id).lastElementChild;
  const lead = (text) => el('p', { class: 'lead' }, text);

  /** A line that says what is missing; every second part is a command. */
  const missing = (...parts) =>
    el('p', { class: 'missing' }, parts.map((part, i) => (i % 2 ? el('code', {}, part) : part)));

  function colour(model) {
    if (model === data.baseline) return 'var(--m0)';
    const rank = model - (model > data.baseline ? 1 : 0);
    return `var(--m${1 + (rank % 7)})`;
  }

  const shape = (model) => el('svg:path', { d: SHAPES[model % 4], fill: colour(model), class: 'dot' });

  const mark = (model) =>
    el('svg:svg', { class: 'mark', viewBox: '-6 -6 12 12', 'aria-hidden': 'true' }, shape(model));

  const named = (model) => el('span', { class: 'label' }, mark(model), el('span', { title: data.models[model] }, data.models[model]));

  const verdict = (kind, word) => el('span', { class: `verdict ${KINDS[kind] ?? 'unknown'}` }, word);

  const signed = (value) => `${value < -0.05 ? '' : '+'}${(Math.round(value * 10) / 10 + 0).toFixed(1)}`;

  // What is shown.

  const shown = (model) => !state.hidden.has(model);
  const visible = (domain) => state.domain === null || state.domain === domain;

  /** All [group, number of it, column] that the filter lets through, targets first. */
  function columns() {
    return data.groups.flatMap((group, number) =>
      group.columns.filter((column) => visible(column.domain)).map((column) => [group, number, column]),
    );
  }

  function title(group, column) {
    const own = group.home === column.domain ? ' (its own domain)' : '';
    return `${data.domains[column.domain]}, trained on ${group.title}${own}`;
  }

  // Strips: an SVG as wide as its cell, with positions in percent.

  function scale(values, zero) {
    const known = values.filter((value) => value !== null && Number.isFinite(value));
    let low = Math.min(...known, ...(zero ? [0] : []));
    let high = Math.max(...known, ...(zero ? [0] : []));
    if (!(high > low)) [low, high] = [(low || 0) - 1, (high || 0) + 1];
    const raw = (high - low) / 4;
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= raw);
    const pad = (high - low) * 0.05;
    [low, high] = [low - pad, high + pad];
    const ticks = [];
    for (let tick = Math.ceil(low / step) * step; tick <= high; tick += step) ticks.push(tick);
    return { ticks, at: (value) => `${((100 * (value - low)) / (high - low)).toFixed(2)}%`, step };
  }

  function strip(axis, ...marks) {
    const lines = axis.ticks.map((tick) =>
      el('svg:line', {
        class: Math.abs(tick) < axis.step / 1e6 && axis.zero ? 'zero' : 'grid',
        x1: axis.at(tick), x2: axis.at(tick), y1: '0', y2: '100%',
      }),
    );
    return el('svg:svg', { class: 'strip', 'aria-hidden': 'true' }, lines, marks);
  }

  function ticks(axis) {
    const digits = axis.step < 1 ? 1 : 0;
    const labels = axis.ticks.map((tick) =>
      el('svg:text', { class: 'axis', x: axis.at(tick), y: '1.5em', 'text-anchor': 'middle' }, (tick + 0).toFixed(digits)),
    );
    return el('svg:svg', { class: 'strip', 'aria-hidden': 'true' }, labels);
  }

  const bar = (axis, kind, [low, high], model) =>
    low === null || high === null
      ? null
      : el('svg:line', { class: kind, x1: axis.at(low), x2: axis.at(high), y1: '50%', y2: '50%', stroke: colour(model) });

  const dot = (axis, value, model) =>
    value === null
      ? null
      : el('svg:svg', { x: axis.at(value), y: '50%', overflow: 'visible' }, shape(model));

  function chart(caption, heads, axis, rows) {
    const [first, last] = heads;
    return el('table', { class: 'chart' },
      el('caption', { class: 'hidden' }, caption),
      el('colgroup', {}, el('col'), el('col', { class: 'strip-column' }), el('col', { class: 'value-column' })),
      el('thead', {}, el('tr', {},
        el('th', { scope: 'col' }, first), el('td', { class: 'strip' }, ticks(axis)), el('th', { scope: 'col', class: 'n' }, last))),
      el('tbody', {}, rows));
  }

  // 1. Intervals and verdicts.

  function drawIntervals() {
    const found = columns().map(([group, number, column]) => ({
      group, column,
      alone: aloneOf(group, number, column),
      pairs: pairsOf(group, number, column),
    }));
    const limits = found.flatMap(({ alone }) => alone.flatMap((one) => [one.value[0], ...one.limits]));
    const changes = found.flatMap(({ pairs }) => pairs.flatMap((one) => [one.value[0], ...one.limits, ...(one.both ?? [])]));
    const axis = scale(limits, false);
    const axis2 = { ...scale(changes, true), zero: true };
    place('intervals').replaceChildren(
      data.alone.length
        ? lead('Dot: mean over the seeds. Thick bar: 95 % over images, or over the drives that they are of. Thin bar: over seeds, too; a change is clear where it excludes zero. With one seed the chance of training is not known.')
        : missing('Dots without bars: there are no results of single images (*.images.npz) beside these records. ', 'ibnseg test CONFIG CHECKPOINT', ' writes them; then make the report again.'),
      ...found.map(({ group, column, alone, pairs }, rank) => part('intervals', title(group, column), rank,
        el('div', { class: 'pair' },
          alone.length ? chart('mIoU and its interval', ['Model', 'mIoU in %'], axis, alone.map((one) => aloneRow(one, axis))) : null,
          pairs.length ? chart('Changes and their verdicts', ['Change', 'points'], axis2, pairs.map((one) => pairRow(one, axis2))) : null))),
    );
  }

  /** Estimates of a column; of rows without one, the bare number. */
  function aloneOf(group, number, column) {
    return group.rows.filter((row) => shown(row.model) && row.cells[column.domain]).map((row) => {
      const cell = row.cells[column.domain];
      const one = data.alone.find((e) => e.group === number && e.domain === column.domain && e.model === row.model);
      return one && !cell.mixed ? one : { model: row.model, value: cell.miou, limits: [null, null] };
    });
  }

  function pairsOf(group, number, column) {
    const known = data.pairs.filter((e) => e.group === number && e.domain === column.domain);
    const bare = group.rows
      .filter((row) => row.cells[column.domain]?.delta)
      .filter((row) => !known.some((e) => e.model === row.model && e.against === row.against))
      .map((row) => ({
        model: row.model, against: row.against, value: row.cells[column.domain].delta,
        limits: [null, null], kind: 'unknown', word: 'unknown',
      }));
    return [...known, ...bare].filter((e) => shown(e.model) && shown(e.against));
  }

  const notes = (one) => [one.range ?? 'no interval', one.by_seed && `${one.seeds} seeds: ${one.by_seed}`]
    .filter(Boolean).map((text) => el('span', { class: 'sub' }, text));

  const aloneRow = (one, axis) => el('tr', {},
    el('th', { scope: 'row', class: 'name' }, named(one.model)),
    el('td', { class: 'strip' }, strip(axis, bar(axis, 'bar', one.limits, one.model), dot(axis, one.value[0], one.model))),
    el('td', { class: 'n' }, el('strong', {}, one.value[1]), notes(one)));

  const pairRow = (one, axis) => el('tr', {},
    el('th', { scope: 'row', class: 'name' }, named(one.model), el('span', { class: 'sub' }, `against ${data.models[one.against]}`)),
    el('td', { class: 'strip' }, strip(axis,
      bar(axis, 'both', one.both ?? [null, null], one.model),
      bar(axis, 'bar', one.limits, one.model), dot(axis, one.value[0], one.model))),
    el('td', { class: 'n', title: one.sentence },
      el('strong', {}, one.value[1]), notes(one),
      verdict(one.kind, one.word)));

  // 2. Source and targets.

  function drawResults() {
    const parts = data.groups.map((group, number) => resultTable(group, number)).filter(Boolean);
    place('results').replaceChildren(
      lead(state.cls === null
        ? 'mIoU in %. Targets come first. Δ: change against the baseline. Gap: mIoU minus mIoU on the own domain of the source. Bold: highest of a column. †: other protocol than its column.'
        : `IoU of ${data.classes[state.cls]} in %, and its change against the baseline. Verdicts are of mIoU only.`),
      ...parts);
  }

  /** The [name, value of a row, verdict?] of each column under a domain. */
  function facts(group, number, domain) {
    const rows = group.rows.filter((row) => row.cells[domain]);
    if (state.cls !== null) {
      const base = (row) => group.rows.find((r) => r.model === row.against)?.cells[domain]?.iou[state.cls]?.[0];
      const change = (row) => {
        const [mine, theirs] = [row.cells[domain]?.iou[state.cls]?.[0], base(row)];
        return mine == null || theirs == null ? null : [mine - theirs, signed(mine - theirs)];
      };
      return [['IoU', (row) => row.cells[domain]?.iou[state.cls]], ...(rows.some(change) ? [['Δ', change]] : [])];
    }
    const found = [['mIoU', (row) => row.cells[domain]?.miou]];
    if (rows.some((row) => row.cells[domain].delta)) {
      found.push(['Δ', (row) => row.cells[domain]?.delta]);
      found.push(['verdict', (row) => pairsOf(group, number, { domain }).find((e) => e.model === row.model && e.against === row.against)]);
    }
    if (rows.some((row) => row.cells[domain].gap)) found.push(['gap', (row) => row.cells[domain]?.gap]);
    return found;
  }

  function resultTable(group, number) {
    const parts = group.columns.filter((column) => visible(column.domain))
      .map((column) => [column, facts(group, number, column.domain)]);
    if (!parts.length) return null;
    const [by, descending] = state.sort.get(number) ?? [null, true];
    const head = (key, text, attributes = {}) => el('th', {
      scope: 'col', 'aria-sort': by === key ? (descending ? 'descending' : 'ascending') : 'none', ...attributes,
    }, el('button', { type: 'button', 'data-sort': `${number}/${key}`, click: () => sortBy(number, key) }, text));
    const body = sorted(group, parts, by, descending).map((row) => resultRow(row, parts));
    return el('div', {},
      el('h3', {}, `Trained on ${group.title}`),
      el('div', { class: 'wide', tabindex: '0', role: 'group', 'aria-label': `Results, trained on ${group.title}` },
        el('table', { class: 'results' },
          el('thead', {},
            el('tr', {}, head('model', 'Model', { rowspan: 2 }),
              parts.map(([column, found]) => el('th', { scope: 'colgroup', colspan: found.length, class: 'first' },
                `${data.domains[column.domain]}${group.home === column.domain ? ' (own)' : ''}`)),
              el('th', { scope: 'col', rowspan: 2, class: 'n first' }, 'seeds')),
            el('tr', {}, parts.map(([column, found]) => found.map(([name], i) => name === 'verdict'
              ? el('th', { scope: 'col' }, name)
              : head(`${column.domain} ${name}`, name, { class: i ? 'n' : 'n first' }))))),
          el('tbody', {}, body),
          el('tfoot', {},
            foot('protocol', parts, (column) => `${column.protocol} ${column.digest}`),
            foot('classes', parts, (column) => counted(group, column.domain))))));
  }

  const foot = (name, parts, text) => el('tr', {}, el('th', { scope: 'row' }, name),
    parts.map(([column, found]) => el('td', { colspan: found.length, class: 'first' }, text(column))), el('td', { class: 'first' }));

  const counted = (group, domain) =>
    [...new Set(group.rows.map((row) => row.cells[domain]?.counted).filter(Boolean))].join(', ');

  function resultRow(row, parts) {
    const best = (domain, name) => name === 'mIoU' && row.cells[domain]?.best;
    const cell = ([name, take], column, i) => {
      const value = take(row);
      if (name === 'verdict') return el('td', {}, value ? verdict(value.kind, value.word) : null);
      const empty = name === 'mIoU' || name === 'IoU' || name === 'gap' ? 'n/a' : '';
      const text = value ? value[1] : empty;
      return el('td', { class: `n${i ? '' : ' first big'}` }, best(column.domain, name) ? el('strong', {}, text) : text);
    };
    return el('tr', { class: row.model === data.baseline ? 'baseline' : null, hidden: !shown(row.model) },
      el('th', { scope: 'row', class: 'name' }, named(row.model)),
      parts.map(([column, found]) => found.map((fact, i) => cell(fact, column, i))),
      el('td', { class: 'n first' }, String(row.n)));
  }

  function sorted(group, parts, by, descending) {
    if (by === null) return group.rows;
    if (by === 'model') {
      const names = [...group.rows].sort((a, b) => data.models[a.model].localeCompare(data.models[b.model]));
      return descending ? names.reverse() : names;
    }
    const [column, found] = parts.find(([one, f]) => f.some(([name]) => `${one.domain} ${name}` === by)) ?? [];
    if (!column) return group.rows;
    const take = found.find(([name]) => `${column.domain} ${name}` === by)[1];
    const value = (row) => take(row)?.[0] ?? null;
    // What has no value comes last in both directions.
    return [...group.rows].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === null || y === null) return (x === null) - (y === null);
      return descending ? y - x : x - y;
    });
  }

  function sortBy(number, key) {
    const [by, descending] = state.sort.get(number) ?? [];
    state.sort.set(number, [key, by === key ? !descending : key !== 'model']);
    drawResults();
    const again = [...document.querySelectorAll('[data-sort]')].find((b) => b.dataset.sort === `${number}/${key}`);
    again?.focus();
    const how = state.sort.get(number)[1] ? 'descending' : 'ascending';
    say(`sorted by ${key === 'model' ? 'model' : key.replace(/^\d+/, (d) => data.domains[d])}, ${how}`);
  }

  // 3. Photos. Files are decoded when their card comes near the screen, and let go when it leaves.

  const cards = new Map(); // element -> card
  const near = new IntersectionObserver(
    (entries) => entries.forEach((entry) => (entry.isIntersecting ? open : close)(cards.get(entry.target))),
    { rootMargin: '400px' },
  );

  // One photo may be chosen by several rules.
  const rules = (photo) => photo.why.split(', ');

  function drawGallery() {
    const root = place('gallery');
    near.disconnect();
    cards.clear();
    if (!data.gallery) {
      root.replaceChildren(missing('No photos: this report has no folder gallery/ beside it. ', 'ibnseg gallery', ' with the same records and --out makes it; then make the report again.'));
      return;
    }
    const { photos } = data.gallery;
    const here = photos.filter((photo) => visible(photo.domain));
    const some = here.filter((photo) => state.why === null || rules(photo).includes(state.why));
    const domains = [...new Set(some.map((photo) => photo.domain))];
    root.replaceChildren(
      lead(`mIoU of each photo in %. Left of the slider: ${data.models[state.a]}; right of it: ${data.models[state.b]}. Choose a class to highlight it.`),
      whichPhotos(here),
      legend(),
      ...domains.map((domain) => part('photos', data.domains[domain], 0,
        some.filter((photo) => photo.domain === domain).map(card))),
    );
  }

  function whichPhotos(photos) {
    const whys = [...new Set(data.gallery.photos.flatMap(rules))];
    return el('div', {},
      el('div', { class: 'chips', role: 'group', 'aria-label': 'Which photos' },
        [null, ...whys].map((why) => el('button', {
          type: 'button', class: 'chip', 'aria-pressed': String(state.why === why), 'data-why': why ?? '',
          click: () => { state.why = why; drawGallery(); focusOn('data-why', why ?? ''); },
        }, el('span', {}, `${state.why === why ? '✓ ' : ''}${why ?? 'all photos'} (${photos.filter((p) => why === null || rules(p).includes(why)).length})`)))),
      el('p', { class: 'key' },
        key(BLACK, 'not counted (no ground truth)'), key(MISSED, 'error; with a class chosen: it is missed'), key(FALSE_ALARM, 'the chosen class where it is not')));
  }

  function legend() {
    return el('div', { class: 'tools' },
      el('div', { class: 'legend', role: 'group', 'aria-label': 'Class to highlight' },
        data.gallery.classes.map((name, i) => {
          const swatch = el('span', { class: 'swatch' });
          swatch.style.background = `rgb(${data.palette[i].join(' ')})`;
          return el('button', {
            type: 'button', class: 'chip', 'data-class': i, 'aria-pressed': String(state.cls === i), title: name,
            click: () => set({ cls: state.cls === i ? null : i }),
          }, swatch, el('span', {}, name));
        })));
  }

  function key(rgb, text) {
    const swatch = el('span', { class: 'swatch' });
    swatch.style.background = `rgb(${rgb.join(' ')})`;
    return el('span', {}, swatch, ` ${text}`);
  }

  const focusOn = (name, value) =>
    [...document.querySelectorAll(`[${name}]`)].find((node) => node.getAttribute(name) === value)?.focus();

  /** Number of a photo's first file: each photo has itself, the truth and its models. */
  const firstFile = new Map();
  data.gallery?.photos.reduce((start, photo) => (firstFile.set(photo, start), start + 2 + photo.models.length), 0);

  function panel(name, photo, count, tags) {
    const canvases = Array.from({ length: count }, (_, i) => el('canvas', { class: i ? 'over' : null, role: 'img', 'aria-label': `${tags[count - 1 - i]}: ${name}, ${photo.key}` }));
    const root = el('div', { class: `panel ${name.replace(' ', '-')}${count > 1 ? ' split' : ''}` }, canvases,
      tags.map((tag, i) => el('span', { class: i ? 'tag right' : 'tag', 'aria-hidden': 'true' }, tag)));
    root.style.aspectRatio = `${photo.size[0]} / ${photo.size[1]}`;
    return { root, canvases };
  }

  function card(photo) {
    const has = (model) => photo.models.includes(model);
    const sides = [state.a, state.b].filter((model, i, all) => has(model) && all.indexOf(model) === i);
    const names = sides.map((model) => data.models[model]);
    const parts = {
      photo: panel('photo', photo, 1, ['photo']),
      truth: panel('ground truth', photo, 1, ['ground truth']),
      classes: names.length ? panel('prediction', photo, names.length, names) : null,
      errors: names.length ? panel('errors', photo, names.length, names.map((name) => `errors of ${name}`)) : null,
    };
    const slider = names.length < 2 ? null : el('input', {
      type: 'range', class: 'slider', min: 0, max: 100, value: 50, step: 1,
      'aria-label': `Slider between ${names[0]} (left) and ${names[1]} (right)`,
      input: (event) => cut(event.target.value),
    });
    const root = el('figure', { class: 'card' },
      el('figcaption', {},
        el('span', { class: 'why' }, photo.why),
        el('span', { class: 'scores' }, photo.models.map((model, i) => shown(model)
          ? el('span', {}, mark(model), ` ${data.models[model]} ${photo.miou[i]}`) : null)),
        el('span', { class: 'key' }, photo.key)),
      el('div', { class: 'panels' }, parts.photo.root, parts.truth.root, parts.classes?.root, slider, parts.errors?.root));
    const cut = (percent) => {
      root.style.setProperty('--cut', `${percent}%`);
      slider.setAttribute('aria-valuetext', `${percent} % ${names[0]}`);
    };
    if (slider) for (const part of [parts.classes, parts.errors]) drag(part.root, slider, cut);
    const one = { root, photo, parts, sides, planes: new Map(), drawing: null };
    cards.set(root, one);
    near.observe(root);
    return root;
  }

  function drag(root, slider, cut) {
    const move = (event) => {
      const box = root.getBoundingClientRect();
      slider.value = String(Math.round((100 * (event.clientX - box.left)) / box.width));
      cut(slider.value);
    };
    root.addEventListener('pointerdown', (event) => { root.setPointerCapture(event.pointerId); move(event); });
    root.addEventListener('pointermove', (event) => { if (event.buttons) move(event); });
  }

  /** Resolves when the card is painted. */
  function open(one) {
    if (one) one.drawing ??= draw(one);
    return one?.drawing;
  }

  async function draw(one) {
    const start = firstFile.get(one.photo);
    const files = [0, 1, ...one.sides.map((model) => 2 + one.photo.models.indexOf(model))];
    try {
      await Promise.all(files.map(async (i) => one.planes.set(i, await pixels(start + i))));
      if (one.drawing) paint(one);
    } catch (error) {
      for (const part of Object.values(one.parts)) part?.root.append(el('span', { class: 'tag' }, `cannot be shown: ${error.message}`));
    }
  }

  function close(one) {
    if (!one?.drawing) return;
    one.drawing = null;
    delete one.root.dataset.drawn;
    one.planes.clear();
    for (const part of Object.values(one.parts)) for (const canvas of part?.canvases ?? []) canvas.width = canvas.height = 0;
  }

  /** The RGBA pixels of a file, exact: without colour management. */
  async function pixels(number) {
    const text = atob(document.getElementById(`file-${number}`).textContent);
    const bytes = Uint8Array.from(text, (c) => c.charCodeAt(0));
    const bitmap = await createImageBitmap(new Blob([bytes]), { colorSpaceConversion: 'none', premultiplyAlpha: 'none' });
    const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext('2d', { willReadFrequently: true });
    context.drawImage(bitmap, 0, 0);
    return context.getImageData(0, 0, bitmap.width, bitmap.height);
  }

  function paint(one) {
    const [photo, truth] = [one.planes.get(0), one.planes.get(1)];
    if (!photo || !truth) return;
    one.root.dataset.drawn = '';
    put(one.parts.photo.canvases[0], photo);
    put(one.parts.truth.canvases[0], coloured(truth, truth, photo));
    // The first model lies over the second, cut by the slider.
    [...one.sides].reverse().forEach((model, i) => {
      const plane = one.planes.get(2 + one.photo.models.indexOf(model));
      put(one.parts.classes.canvases[i], coloured(plane, truth, photo));
      put(one.parts.errors.canvases[i], wrong(plane, truth, photo));
    });
  }

  function put(canvas, image) {
    [canvas.width, canvas.height] = [image.width, image.height];
    canvas.getContext('2d').putImageData(image, 0, 0);
  }

  function filled(image, colourAt) {
    const out = new ImageData(image.width, image.height);
    for (let i = 0; i < out.data.length; i += 4) {
      const [r, g, b] = colourAt(i);
      out.data[i] = r; out.data[i + 1] = g; out.data[i + 2] = b; out.data[i + 3] = 255;
    }
    return out;
  }

  const BLACK = [0, 0, 0];
  const MISSED = [245, 130, 32];
  const FALSE_ALARM = [70, 160, 235];

  function grey(photo, i, share) {
    const value = share * (0.3 * photo.data[i] + 0.6 * photo.data[i + 1] + 0.1 * photo.data[i + 2]);
    return [value, value, value];
  }

  function coloured(plane, truth, photo) {
    return filled(plane, (i) => {
      if (truth.data[i] === IGNORED) return BLACK;
      if (state.cls !== null && plane.data[i] !== state.cls) return grey(photo, i, 0.45);
      return data.palette[plane.data[i]] ?? BLACK;
    });
  }

  function wrong(plane, truth, photo) {
    return filled(plane, (i) => {
      const [is, said] = [truth.data[i], plane.data[i]];
      if (is === IGNORED) return BLACK;
      const counts = state.cls === null || is === state.cls || said === state.cls;
      if (is === said || !counts) return grey(photo, i, 0.35);
      return state.cls !== null && said === state.cls ? FALSE_ALARM : MISSED;
    });
  }

  // 4. Change of each class.

  function drawClasses() {
    const parts = columns().map(([group, , column]) => {
      const rows = group.rows.filter((row) => shown(row.model) && row.against !== null && row.cells[column.domain]);
      return { group, column, rows, lines: classLines(group, column.domain, rows) };
    }).filter(({ lines }) => lines.length);
    const axis = { ...scale(parts.flatMap(({ lines }) => lines.flatMap(([, values]) => values)), true), zero: true };
    place('classes').replaceChildren(
      parts.length
        ? lead('IoU of each class minus that of the baseline, in points, mean over the seeds. No interval is known of single classes.')
        : missing('Nothing to compare: this needs records of a baseline and of another model.'),
      ...parts.map(({ group, column, rows, lines }, rank) => part('classes', title(group, column), rank,
        el('div', { class: 'wide', tabindex: '0', role: 'group', 'aria-label': `Classes on ${data.domains[column.domain]}` },
          classTable(group, rows, lines, axis)))));
  }

  function classLines(group, domain, rows) {
    return data.classes.map((_, cls) => [cls, rows.map((row) => {
      const theirs = group.rows.find((r) => r.model === row.against)?.cells[domain]?.iou[cls]?.[0];
      const mine = row.cells[domain].iou[cls]?.[0];
      return mine == null || theirs == null ? null : mine - theirs;
    })]).filter(([cls, values]) => values.some((v) => v !== null) && (state.cls === null || cls === state.cls));
  }

  function classTable(group, rows, lines, axis) {
    const bars = (values) => {
      const root = strip(axis, values.map((value, i) => {
        if (value === null) return null;
        const [x0, x1] = [Math.min(0, value), Math.max(0, value)].map((v) => parseFloat(axis.at(v)));
        return el('svg:rect', { x: `${x0}%`, width: `${(x1 - x0).toFixed(2)}%`, y: 4 + 9 * i, height: 7, fill: colour(rows[i].model) });
      }));
      root.style.height = `${8 + 9 * values.length}px`;
      return root;
    };
    return el('table', { class: 'chart bars' },
      el('caption', { class: 'hidden' }, 'Change of each class'),
      el('colgroup', {}, el('col'), el('col', { class: 'strip-column' }), rows.map(() => el('col'))),
      el('thead', {}, el('tr', {}, el('th', { scope: 'col' }, 'Class'), el('td', { class: 'strip' }, ticks(axis)),
        rows.map((row) => el('th', { scope: 'col', class: 'n name' }, named(row.model))))),
      el('tbody', {}, lines.map(([cls, values]) => el('tr', {},
        el('th', { scope: 'row', class: 'name' }, data.classes[cls]),
        el('td', { class: 'strip' }, bars(values)),
        values.map((value) => el('td', { class: 'n' }, value === null ? 'n/a' : signed(value)))))));
  }

  // 5. Confusion.

  function drawConfusion() {
    const [first] = columns();
    const domain = first?.[2].domain;
    const models = [...new Set([state.a, state.b])];
    const parts = models.map((model) => {
      const group = data.groups.find((g) => g.rows.some((row) => row.model === model && row.cells[domain]?.confusion));
      const row = group?.rows.find((r) => r.model === model);
      return row ? heat(model, domain, row.cells[domain].confusion) : null;
    });
    place('confusion').replaceChildren(
      lead('Of the pixels of a class in the ground truth (row), the share in % that is predicted as each class (column). Blue: right. Orange: wrong.'),
      el('h3', {}, first ? data.domains[domain] : 'no domain'),
      parts.some(Boolean) ? el('div', { class: 'pair' }, parts) : missing('There is no confusion matrix of these models on this domain, or it has too many classes to be drawn.'));
  }

  function heat(model, domain, matrix) {
    const used = matrix.map((line, i) => i).filter((i) => matrix[i].some((v) => v !== null) || matrix.some((line) => line[i] > 0));
    const cell = (value, truth, said) => {
      const dim = state.cls !== null && truth !== state.cls && said !== state.cls;
      const node = el('td', {
        class: [dim ? 'dim' : '', value > 82 ? 'strong' : value > 62 ? 'mid' : ''].join(' '),
        title: `${data.classes[truth]} predicted as ${data.classes[said]}: ${value === null ? 'no pixels' : `${value.toFixed(1)} %`}`,
      }, value === null ? '–' : value >= 0.5 ? String(Math.round(value)) : '');
      if (value !== null && value >= 0.5) {
        node.style.background = `color-mix(in srgb, var(--${truth === said ? 'good' : 'bad'}) ${Math.round(8 + 0.92 * value)}%, transparent)`;
      }
      return node;
    };
    const worst = used.flatMap((t) => used.filter((p) => p !== t && matrix[t][p] > 0).map((p) => [matrix[t][p], t, p]))
      .filter(([, t, p]) => state.cls === null || t === state.cls || p === state.cls)
      .sort((a, b) => b[0] - a[0]).slice(0, 4);
    return el('div', {},
      el('p', {}, el('strong', {}, named(model))),
      el('p', { class: 'sub' }, 'Largest: ', worst.map(([v, t, p]) => `${data.classes[t]} as ${data.classes[p]} ${v.toFixed(0)} %`).join('; ') || 'none'),
      el('div', { class: 'wide', tabindex: '0', role: 'group', 'aria-label': `Confusion of ${data.models[model]}` },
        el('table', { class: 'heat' },
          el('caption', { class: 'hidden' }, `Confusion of ${data.models[model]} on ${data.domains[domain]}, in percent of the ground truth`),
          el('thead', {}, el('tr', {}, el('th', { scope: 'col' }, el('span', { class: 'hidden' }, 'ground truth')),
            used.map((i) => el('th', { scope: 'col' }, el('span', {}, data.classes[i]))))),
          el('tbody', {}, used.map((t) => el('tr', {}, el('th', { scope: 'row', title: data.classes[t] }, data.classes[t]), used.map((p) => cell(matrix[t][p], t, p))))))));
  }

  // 6. Training.

  function drawCurves() {
    const models = Object.keys(data.curves).map(Number).filter(shown);
    const kinds = ['loss', 'mIoU'].filter((kind) => models.some((m) => data.curves[m][kind]?.length));
    place('curves').replaceChildren(
      kinds.length
        ? lead('Loss of the training, and mIoU in % of the validation during it, by iteration.')
        : missing('No training curves: there is no vis_data/scalars.json of a run beside these records, or its models are not shown. ', 'ibnseg train', ' writes it.'),
      el('div', { class: 'pair' }, kinds.map((kind) => curve(kind, models.filter((m) => data.curves[m][kind]?.length)))));
  }

  function curve(kind, models) {
    const [width, height, left, bottom] = [Math.max(280, Math.min(600, document.documentElement.clientWidth - 40)), 240, 38, 26];
    const all = models.flatMap((m) => data.curves[m][kind]);
    const [xs, ys] = [scale(all.map(([x]) => x), true), scale(all.map(([, y]) => y), true)];
    const x = (v) => left + ((width - left - 14) * parseFloat(xs.at(v))) / 100;
    const y = (v) => height - bottom - ((height - bottom - 8) * parseFloat(ys.at(v))) / 100;
    const lines = ys.ticks.map((t) => [
      el('svg:line', { class: 'grid', x1: left, x2: width, y1: y(t), y2: y(t) }),
      el('svg:text', { class: 'axis', x: left - 6, y: y(t) + 4, 'text-anchor': 'end' }, t.toFixed(ys.step < 1 ? 1 : 0)),
    ]).flat();
    const steps = xs.ticks.filter((t) => t >= 0).map((t) => el('svg:text', { class: 'axis', x: x(t), y: height - 8, 'text-anchor': 'middle' }, t.toFixed(0)));
    const paths = models.map((m) => {
      const points = data.curves[m][kind];
      const path = points.map(([a, b], i) => `${i ? 'L' : 'M'}${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join('');
      const [endX, endY] = points[points.length - 1];
      const end = el('svg:svg', { x: x(endX), y: y(endY), overflow: 'visible' }, shape(m));
      return [el('svg:path', { d: path, stroke: colour(m) }), end];
    }).flat();
    const ends = models.map((m) => `${data.models[m]} ends at ${data.curves[m][kind].at(-1)[1].toFixed(kind === 'loss' ? 2 : 1)}`).join(', ');
    return el('div', {}, el('h3', {}, kind),
      el('svg:svg', { class: 'plot', viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': `${kind} by iteration: ${ends}` }, lines, steps, paths),
      el('p', { class: 'scores chips' }, models.map((m) => el('span', { class: 'chip' }, named(m)))));
  }

  // Filters and theme.

  function choice(name, label, options, value, change) {
    return el('label', {}, label, el('select', { id: name, change: (event) => change(event.target.value === '' ? null : Number(event.target.value)) },
      options.map(([key, text]) => el('option', { value: key ?? '', selected: key === value }, text))));
  }

  function drawControls() {
    const listed = (names, all) => [[null, all], ...names.map((name, i) => [i, name])];
    const models = data.models.map((name, i) => [i, name]);
    const root = document.getElementById('controls');
    const open = root.firstElementChild?.open ?? matchMedia('(min-width: 40rem)').matches;
    root.replaceChildren(el('details', { open }, el('summary', {}, 'Filter and compare'), el('div', { class: 'filters' },
      choice('domain', 'Domain', listed(data.domains, 'all domains'), state.domain, (domain) => set({ domain })),
      choice('class', 'Class', listed(data.classes, 'all classes'), state.cls, (cls) => set({ cls })),
      ...(models.length < 2 ? [] : [
        choice('model-a', 'Compare (left)', models, state.a, (a) => set({ a })),
        choice('model-b', 'with (right)', models, state.b, (b) => set({ b })),
        el('fieldset', {}, el('legend', {}, 'Models shown'), el('div', { class: 'chips' },
          models.map(([model]) => el('button', {
            type: 'button', class: 'chip model', 'data-model': model, 'aria-pressed': String(shown(model)), title: data.models[model],
            click: () => toggle(model),
          }, named(model))))),
      ]))));
    root.hidden = false;
  }

  function toggle(model) {
    if (!state.hidden.delete(model)) state.hidden.add(model);
    set({});
  }

  const dark = () => {
    const chosen = document.documentElement.dataset.theme;
    return chosen ? chosen === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  };
  const themeText = () => (dark() ? 'Light theme' : 'Dark theme');

  function nextTheme() {
    document.documentElement.dataset.theme = dark() ? 'light' : 'dark';
    document.getElementById('theme').textContent = themeText();
  }

  /** Print with every photo drawn; those that the browser's own command finds undrawn are left out. */
  async function print() {
    say('drawing the photos');
    await Promise.all([...cards.values()].map(open));
    window.print();
  }

  function say(text) {
    document.getElementById('status').textContent = text;
  }

  /** Change what is shown, and draw what depends on it; the focus stays where it was. */
  function set(changes) {
    const [before, focus] = [{ ...state }, document.activeElement];
    Object.assign(state, changes);
    const again = ['data-model', 'data-class', 'id'].find((name) => focus?.hasAttribute(name));
    const value = again && focus.getAttribute(again);
    drawControls();
    drawIntervals();
    drawResults();
    drawClasses();
    drawConfusion();
    drawCurves();
    if (['domain', 'a', 'b'].some((key) => before[key] !== state[key]) || !('cls' in changes)) drawGallery();
    else repaint();
    if (again) focusOn(again, value);
    const models = data.models.filter((_, model) => shown(model)).length;
    say(`${models} models, ${state.domain === null ? 'all domains' : data.domains[state.domain]}, ${state.cls === null ? 'all classes' : data.classes[state.cls]}`);
  }

  function repaint() {
    for (const button of document.querySelectorAll('[data-class]')) {
      button.setAttribute('aria-pressed', String(Number(button.dataset.class) === state.cls));
    }
    for (const one of cards.values()) if (one.drawing) paint(one);
  }

  for (const section of document.querySelectorAll('main > section')) section.hidden = false;
  document.querySelector('header').prepend(el('div', { class: 'page-tools' },
    el('button', { type: 'button', id: 'print', click: print }, 'Print'),
    el('button', { type: 'button', id: 'theme', click: nextTheme }, themeText())));
  new ResizeObserver(([entry]) => document.documentElement.style.setProperty('--top', `${entry.target.offsetHeight}px`))
    .observe(document.getElementById('controls'));
  drawControls();
  drawIntervals();
  drawResults();
  drawGallery();
  drawClasses();
  drawConfusion();
  drawCurves();
  document.documentElement.dataset.ready = String(Math.round(performance.now()));
})();
