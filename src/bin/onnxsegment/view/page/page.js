// The page of `onnxsegment view`. Its coordinates are the image's pixels: x is the column, y the row downwards as a negative.
import {
  Map, View, Feature, TileLayer, VectorLayer, VectorSource, TileImage, TileGrid, Projection, GeoJSON, Point, Style, Stroke, Fill,
  Circle, interactions, getRenderPixel,
} from '/ol.js';

const $ = (id) => document.getElementById(id);
const NAMES = { image: 'Image', mask: 'Mask', probability: 'Probability', uncertainty: 'Uncertainty', outlines: 'Footprints' };
const OPACITY = { image: 1, mask: 0.6, probability: 0.85, uncertainty: 0.85, outlines: 1 };
const FIRST = ['image', 'mask', 'outlines'];

/** An element with attributes and children. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name in element && typeof value !== 'string') element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

async function ask(path, options) {
  const response = await fetch(path, options);
  if (!response.ok) throw new Error((await response.text()).trim());
  return response.json();
}

let fading;
function say(text, stay = 4000) {
  $('toast').textContent = text;
  $('toast').classList.add('shown');
  clearTimeout(fading);
  fading = setTimeout(() => $('toast').classList.remove('shown'), stay);
}

/** A number with as many digits as it takes to tell values apart. */
function number(v) {
  if (v === null || v === undefined) return 'no data';
  if (Number.isInteger(v)) return String(v);
  return Math.abs(v) >= 1000 ? v.toFixed(1) : String(Number(v.toPrecision(3)));
}

const info = await ask('/info').catch((e) => {
  $('title').textContent = 'onnxsegment view';
  $('about').textContent = String(e.message || e);
  throw e;
});
const { width, height } = info;
const narrow = matchMedia('(max-width: 640px)');
const extent = [0, -height, width, 0];
const projection = new Projection({ code: 'pixels', units: 'pixels', extent });

// ---- what is shown

const shown = {
  layers: {},
  hidden: new Set(),
  band: null,
  /** The part of the page's width that is left of the divider; null without one. */
  swipe: null,
};
const defaults = () => {
  for (const id of [...info.layers.map((layer) => layer.id), ...(info.footprints === null ? [] : ['outlines'])]) {
    shown.layers[id] = { visible: FIRST.includes(id), opacity: OPACITY[id] };
  }
  const classes = info.layers.flatMap((layer) => layer.classes ?? []);
  shown.hidden = new Set(classes.filter((one) => !one.shown).map((one) => one.value));
  shown.band = info.layers.find((layer) => layer.id === 'probability')?.ramp.band ?? null;
  shown.swipe = null;
};
defaults();

// ---- the map

function tileAddress(id) {
  const query = new URLSearchParams();
  if (id === 'mask' && shown.hidden.size) query.set('hide', [...shown.hidden].sort((a, b) => a - b).join(','));
  if (id === 'probability' && shown.band !== null) query.set('band', shown.band);
  const suffix = query.size ? `?${query}` : '';
  return ([z, x, y]) => `/tiles/${id}/${z}/${x}/${y}.png${suffix}`;
}

function rasterLayer(layer) {
  const resolutions = Array.from({ length: layer.levels }, (_, z) => layer.finest * 2 ** (layer.levels - 1 - z));
  const tileGrid = new TileGrid({ extent, origin: [0, 0], resolutions, tileSize: info.tile });
  const address = tileAddress(layer.id);
  const source = new TileImage({ projection, tileGrid, tileUrlFunction: address, transition: 0, wrapX: false });
  source.on('tileloaderror', async ({ tile }) => {
    const answer = await fetch(tile.src_ ?? address(tile.getTileCoord())).catch(() => null);
    if (!answer) say('The server has stopped. Start it again and reload this page.', 60000);
    else if (!answer.ok) say((await answer.text()).trim(), 10000);
  });
  const result = new TileLayer({ source, extent, properties: { id: layer.id } });
  // Pixels are squares when one looks at them closely, and classes always are.
  result.on('prerender', (event) => {
    event.context.imageSmoothingEnabled = layer.id !== 'mask' && event.frameState.viewState.resolution > 0.7;
  });
  return result;
}

const outlineSource = new VectorSource();
const outlines = new VectorLayer({
  source: outlineSource,
  properties: { id: 'outlines' },
  style: [
    new Style({ stroke: new Stroke({ color: 'rgba(255,255,255,.85)', width: 4 }), fill: new Fill({ color: 'rgba(0,0,0,.004)' }) }),
    new Style({ stroke: new Stroke({ color: '#0077cc', width: 2 }) }),
  ],
});
const markerSource = new VectorSource();
const marker = new VectorLayer({
  source: markerSource,
  style: [
    new Style({ image: new Circle({ radius: 8, stroke: new Stroke({ color: '#fff', width: 5 }) }) }),
    new Style({ image: new Circle({ radius: 8, stroke: new Stroke({ color: '#2b59c3', width: 2.5 }) }) }),
  ],
});
const layers = info.layers.map(rasterLayer);
if (info.footprints !== null) layers.push(outlines);

const view = new View({
  projection,
  extent,
  constrainOnlyCenter: true,
  smoothExtentConstraint: false,
  enableRotation: false,
  center: [width / 2, -height / 2],
  resolution: Math.max(width, height) / 512,
  minResolution: 1 / 64,
  maxResolution: Math.max(1, (Math.max(width, height) / 100)),
});
const map = new Map({
  target: 'map',
  layers: [...layers, marker],
  view,
  controls: [],
  interactions: interactions({ altShiftDragRotate: false, pinchRotate: false }),
});

/** Room beside the panel. */
function room() {
  const panel = $('panel').getBoundingClientRect();
  return narrow.matches ? [20, 20, innerHeight - panel.top + 20, 20] : [24, 78, 60, panel.right + 24];
}
const fit = (duration = 0) => view.fit(extent, { padding: room(), duration });
const calm = matchMedia('(prefers-reduced-motion: reduce)');
const glide = () => (calm.matches ? 0 : 200);
const zoomBy = (factor) => view.animate({ resolution: view.getConstrainedResolution(view.getResolution() * factor), duration: glide() });
$('in').onclick = () => zoomBy(0.5);
$('out').onclick = () => zoomBy(2);
$('fit').onclick = () => fit(glide());

// ---- compare

for (const layer of layers.filter((one) => one.get('id') !== 'image')) {
  layer.on('prerender', (event) => {
    event.context.save();
    if (shown.swipe === null) return;
    const [w, h] = map.getSize();
    const corners = [[w * shown.swipe, 0], [w, 0], [w, h], [w * shown.swipe, h]].map((pixel) => getRenderPixel(event, pixel));
    event.context.beginPath();
    corners.forEach(([x, y], k) => (k ? event.context.lineTo(x, y) : event.context.moveTo(x, y)));
    event.context.closePath();
    event.context.clip();
  });
  layer.on('postrender', (event) => event.context.restore());
}

function swipeTo(part) {
  shown.swipe = part === null ? null : Math.min(1, Math.max(0, part));
  const on = shown.swipe !== null;
  $('swipe').hidden = !on;
  $('compare').setAttribute('aria-pressed', String(on));
  if (on) {
    $('swipe').style.left = `${shown.swipe * 100}%`;
    $('swipe').setAttribute('aria-valuenow', String(Math.round(shown.swipe * 100)));
  }
  map.render();
  remember();
}
$('compare').onclick = () => {
  const panel = $('panel').getBoundingClientRect();
  const left = narrow.matches ? 0 : panel.right;
  swipeTo(shown.swipe === null ? (left + innerWidth) / 2 / innerWidth : null);
};
$('swipe').onpointerdown = (down) => {
  down.preventDefault();
  $('swipe').focus({ focusVisible: false });
  const drag = new AbortController();
  const during = { signal: drag.signal };
  addEventListener('pointermove', (move) => swipeTo(move.clientX / innerWidth), during);
  for (const end of ['pointerup', 'pointercancel']) addEventListener(end, () => drag.abort(), during);
};
$('swipe').onkeydown = (event) => {
  const step = { ArrowLeft: -0.02, ArrowRight: 0.02, PageDown: -0.1, PageUp: 0.1 }[event.key];
  const end = { Home: 0, End: 1 }[event.key];
  if (step === undefined && end === undefined) return;
  event.preventDefault();
  swipeTo(end ?? shown.swipe + step);
};

// ---- panel

function describe() {
  $('title').textContent = info.layers[0].file;
  document.title = `${info.layers[0].file} – onnxsegment`;
  const size = `${width.toLocaleString('en')} × ${height.toLocaleString('en')} pixels`;
  const ground = info.metres && (info.metres[0] >= 1000 ? `${number(info.metres[0] / 1000)} km` : `${number(info.metres[0])} m`);
  $('about').replaceChildren(ground ? `${size} of ${ground}` : size, make('br'), info.crs ?? 'no coordinate reference system');

  const notes = [];
  for (const layer of info.layers) {
    if (layer.coarse) {
      notes.push(`${layer.file} has no overviews, so it is coarse from afar. gdaladdo ${layer.file} makes them.`);
    }
    if (layer.warped) notes.push(`${layer.file} is warped to the image's pixels; a click tells the value of its nearest pixel.`);
    else if (layer.placed) notes.push(`${layer.file} has a grid of its own, and lies where its georeference says.`);
  }
  $('notes').replaceChildren(...notes.map((text) => make('li', {}, text)));
  $('layers').replaceChildren(...Object.keys(shown.layers).reverse().map(row));
}

function row(id) {
  const layer = info.layers.find((one) => one.id === id);
  const box = make('input', { type: 'checkbox', id: `show-${id}` });
  const slider = make('input', { type: 'range', min: '0', max: '100', 'aria-label': `Opacity of ${NAMES[id]}`, id: `opacity-${id}` });
  const output = make('output', { for: `opacity-${id}` });
  const about = layer ? layer.file : `${info.footprints.toLocaleString('en')} outlines`;
  const item = make(
    'li', { id: `layer-${id}` },
    make('div', { class: 'head' }, make('label', {}, box, NAMES[id]), make('small', { title: about }, id === 'image' ? stretch(layer) : about)),
    make('div', { class: 'opacity' }, slider, output),
    layer?.classes ? legend(layer) : null,
    layer?.ramp ? ramp(layer) : null,
  );
  box.onchange = () => { shown.layers[id].visible = box.checked; apply(); };
  slider.oninput = () => { shown.layers[id].opacity = slider.value / 100; apply(); };
  return item;
}

function stretch(layer) {
  if (layer.stretch) return 'stretched, 2 to 98 %';
  return layer.bands.length > 1 ? `bands ${layer.bands.join(', ')}` : '';
}

function legend(layer) {
  const one = ({ value, name, colour }) => {
    const box = make('input', { type: 'checkbox', id: `class-${value}` });
    box.onchange = () => {
      if (box.checked) shown.hidden.delete(value);
      else shown.hidden.add(value);
      apply();
    };
    const swatch = make('i');
    swatch.style.background = colour;
    return make('li', {}, make('label', { title: name }, box, swatch, make('span', {}, name), make('b', {}, String(value))));
  };
  return make('ul', { class: 'detail classes', 'aria-label': 'Classes' }, ...layer.classes.map(one));
}

function ramp(layer) {
  const { colours, ranges, bands } = layer.ramp;
  const bar = make('div', { class: 'ramp' });
  bar.style.background = `linear-gradient(to right, ${colours.join(', ')})`;
  const ends = make('div', { class: 'ends' });
  const write = (band) => {
    const [low, high] = ranges[band];
    const most = layer.id === 'uncertainty' ? `${number(high)} and above` : number(high);
    ends.replaceChildren(make('span', {}, number(low)), make('span', {}, most));
  };
  let choice = null;
  if (bands.length > 1) {
    choice = make('select', { id: 'band', 'aria-label': 'Class whose probability is shown' }, ...bands.map((name, k) => make('option', { value: String(k) }, name)));
    choice.onchange = () => { shown.band = Number(choice.value); write(shown.band); apply(); };
  }
  write(layer.ramp.band);
  return make('div', { class: 'detail' }, choice, bar, ends);
}

/** Brings the map and the panel to what is to be shown. */
const addresses = {};
function apply() {
  for (const layer of layers) {
    const id = layer.get('id');
    const { visible, opacity } = shown.layers[id];
    layer.setVisible(visible);
    layer.setOpacity(opacity);
    $(`show-${id}`).checked = visible;
    $(`layer-${id}`).classList.toggle('off', !visible);
    const percent = Math.round(opacity * 100);
    const slider = $(`opacity-${id}`);
    slider.value = percent;
    slider.style.setProperty('--part', `${percent}%`);
    slider.nextElementSibling.textContent = `${percent} %`;
    if (id === 'mask' || id === 'probability') {
      const address = tileAddress(id);
      const key = address([0, 0, 0]);
      if (addresses[id] !== key) layer.getSource().setTileUrlFunction(address, key);
      addresses[id] = key;
    }
  }
  for (const layer of info.layers) {
    for (const { value } of layer.classes ?? []) $(`class-${value}`).checked = !shown.hidden.has(value);
  }
  if ($('band')) $('band').value = shown.band;
  remember();
}

$('fold').onclick = () => fold(!$('panel').classList.contains('folded'));
function fold(yes) {
  $('panel').classList.toggle('folded', yes);
  $('fold').setAttribute('aria-expanded', String(!yes));
}

// ---- the link: #x=450&y=450&zoom=1&layers=image:100,-mask:60&hide=0&band=1&swipe=50

let writing;
function remember() {
  clearTimeout(writing);
  writing = setTimeout(() => history.replaceState(null, '', link()), 120);
}

function link() {
  const [x, y] = view.getCenter();
  const round = (v, digits) => Number(v.toFixed(digits));
  const parts = [
    `x=${round(x, 1)}`, `y=${round(-y, 1)}`, `zoom=${round(-Math.log2(view.getResolution()), 2)}`,
    `layers=${Object.entries(shown.layers).map(([id, s]) => `${s.visible ? '' : '-'}${id}:${Math.round(s.opacity * 100)}`).join(',')}`,
  ];
  if (info.layers.some((layer) => layer.classes)) parts.push(`hide=${[...shown.hidden].sort((a, b) => a - b).join(',')}`);
  if (shown.band !== null && $('band')) parts.push(`band=${shown.band}`);
  if (shown.swipe !== null) parts.push(`swipe=${round(shown.swipe * 100, 1)}`);
  return `#${parts.join('&')}`;
}

/** What of a link makes sense for these rasters. */
function restore() {
  const query = new URLSearchParams(location.hash.slice(1));
  const given = (name) => (query.has(name) && query.get(name) !== '' ? Number(query.get(name)) : NaN);
  defaults();
  for (const item of (query.get('layers') ?? '').split(',')) {
    const [, off, id, percent] = item.match(/^(-?)([a-z]+):(\d+)$/) ?? [];
    if (shown.layers[id]) shown.layers[id] = { visible: !off, opacity: Math.min(100, percent) / 100 };
  }
  if (query.has('hide')) shown.hidden = new Set(query.get('hide').split(',').filter((v) => /^-?\d+$/.test(v)).map(Number));
  const bands = info.layers.find((layer) => layer.id === 'probability')?.ramp.bands.length ?? 0;
  if (Number.isInteger(given('band')) && given('band') >= 0 && given('band') < bands) shown.band = given('band');
  const [x, y, zoom] = ['x', 'y', 'zoom'].map(given);
  if ([x, y, zoom].every(Number.isFinite)) {
    view.setCenter([x, -y]);
    view.setResolution(2 ** -zoom);
  } else {
    fit();
  }
  const swipe = given('swipe');
  apply();
  swipeTo(Number.isFinite(swipe) ? swipe / 100 : null);
}
addEventListener('hashchange', () => { if (location.hash !== link()) restore(); });
$('link').onclick = async () => {
  history.replaceState(null, '', link());
  try {
    await navigator.clipboard.writeText(location.href);
    say('Link copied');
  } catch {
    say(`Copy the address of this page: ${location.href}`, 10000);
  }
};

// ---- values at a pixel

const ground = (x, y) => {
  const g = info.geotransform;
  return g && [g[0] + x * g[1] + y * g[2], g[3] + x * g[4] + y * g[5]];
};
/** Coordinates to about a tenth of a pixel. */
const digits = info.geotransform ? Math.min(8, Math.max(0, Math.ceil(1 - Math.log10(Math.abs(info.geotransform[1] || info.geotransform[2] || 1))))) : 0;
const place = ([x, y]) => `${x.toFixed(digits)}, ${y.toFixed(digits)}`;

function list(pairs) {
  return make('dl', {}, ...pairs.flatMap(([name, value]) => [make('dt', { title: name }, name), make('dd', {}, value)]));
}

let asked = 0;
async function show(coordinate, outline) {
  const [column, row] = [Math.floor(coordinate[0]), Math.floor(-coordinate[1])];
  if (column < 0 || row < 0 || column >= width || row >= height) return hide();
  const mine = ++asked;
  let values;
  try {
    values = await ask(`/at?column=${column}&row=${row}`);
  } catch (e) {
    return say(e.message, 10000);
  }
  if (mine !== asked) return;
  markerSource.clear();
  markerSource.addFeature(new Feature(new Point([column + 0.5, -row - 0.5])));

  const found = [];
  if ('mask' in values) {
    const swatch = make('i');
    swatch.style.background = values.mask?.colour ?? 'none';
    found.push(make('p', { class: 'class' }, swatch, values.mask ? values.mask.name : 'no data'));
  }
  const facts = [];
  if (values.mask) facts.push(['mask value', String(values.mask.value)]);
  for (const kind of ['probability', 'uncertainty']) {
    if (!(kind in values)) continue;
    const several = values[kind]?.length > 1;
    if (values[kind] === null) facts.push([kind, 'no data']);
    else for (const band of values[kind]) facts.push([several ? `p(${band.name})` : kind, number(band.value)]);
  }
  const pixel = values.image === null ? 'no data' : values.image.map((band) => number(band.value)).join(', ');
  facts.push(['image', pixel]);
  found.push(list(facts));
  const position = [['column, row', `${column}, ${row}`]];
  if (values.ground) position.push(['x, y', place(values.ground)]);
  if (values.lonlat) position.push(['lon, lat', values.lonlat.map((v) => v.toFixed(6)).join(', ')]);
  found.push(list(position));
  if (outline) {
    const known = Object.entries(outline.getProperties()).filter(([name, v]) => name !== 'geometry' && v !== null);
    found.push(list([['footprint', ''], ...known.map(([name, v]) => [name, typeof v === 'number' ? number(v) : String(v)])]));
  }
  $('values').replaceChildren(...found);
  $('point').hidden = false;
}
function hide() {
  asked++;
  $('point').hidden = true;
  markerSource.clear();
}
$('close').onclick = () => { hide(); $('map').focus(); };
map.on('singleclick', (event) => {
  const outline = map.forEachFeatureAtPixel(event.pixel, (feature) => feature, { layerFilter: (layer) => layer === outlines });
  show(event.coordinate, outline);
});
$('map').addEventListener('keydown', (event) => {
  if (event.key === 'Enter') show(view.getCenter());
});
addEventListener('keydown', (event) => {
  if (event.key === 'Escape') hide();
});

map.on('pointermove', (event) => {
  const [x, y] = [event.coordinate[0], -event.coordinate[1]];
  const inside = x >= 0 && y >= 0 && x < width && y < height;
  const [column, row] = [Math.floor(x), Math.floor(y)];
  $('where').textContent = inside ? [`${column}, ${row}`, ground(x, y) && place(ground(x, y))].filter(Boolean).join('  ·  ') : '';
});

// ---- scale bar

function scale() {
  const metres = info.metres?.[0];
  const perPixel = view.getResolution() * (metres ?? 1);
  const most = 130 * perPixel;
  const power = 10 ** Math.floor(Math.log10(most));
  const length = [5, 2, 1].map((k) => k * power).find((v) => v <= most);
  let text = `${number(length)} px`;
  if (metres) text = length >= 1000 ? `${number(length / 1000)} km` : length >= 1 ? `${number(length)} m` : `${number(length * 100)} cm`;
  $('scale').firstElementChild.style.width = `${length / perPixel}px`;
  $('scale').lastElementChild.textContent = text;
}

// ---- footprints

let loading = new AbortController();
async function loadOutlines() {
  if (info.footprints === null || !shown.layers.outlines.visible) return;
  loading.abort();
  loading = new AbortController();
  const [left, bottom, right, top] = view.calculateExtent(map.getSize());
  const query = new URLSearchParams({ left, top: -top, right, bottom: -bottom, resolution: view.getResolution() });
  try {
    const found = await ask(`/footprints?${query}`, { signal: loading.signal });
    const features = new GeoJSON().readFeatures(found);
    features.forEach((feature) => feature.getGeometry()?.scale(1, -1, [0, 0]));
    outlineSource.clear(true);
    outlineSource.addFeatures(features);
    if (found.more) say(`Only the first ${features.length.toLocaleString('en')} footprints are drawn; zoom in for all`);
  } catch (e) {
    if (e.name !== 'AbortError') say(e.message, 10000);
  }
}
outlines.on('change:visible', loadOutlines);

// ---- begin

describe();
fold(narrow.matches);
map.updateSize();
view.on('change:resolution', scale);
map.on('moveend', () => { remember(); scale(); loadOutlines(); });
map.on('rendercomplete', () => { document.body.dataset.drawn = String(Number(document.body.dataset.drawn ?? 0) + 1); });
restore();
