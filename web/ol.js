// The parts of OpenLayers that the page uses; see tools/web.sh.
export { default as Map } from 'ol/Map.js';
export { default as View } from 'ol/View.js';
export { default as Feature } from 'ol/Feature.js';
export { default as TileLayer } from 'ol/layer/Tile.js';
export { default as VectorLayer } from 'ol/layer/Vector.js';
export { default as VectorSource } from 'ol/source/Vector.js';
export { default as TileImage } from 'ol/source/TileImage.js';
export { default as TileGrid } from 'ol/tilegrid/TileGrid.js';
export { default as Projection } from 'ol/proj/Projection.js';
export { default as GeoJSON } from 'ol/format/GeoJSON.js';
export { default as Point } from 'ol/geom/Point.js';
export { default as Style } from 'ol/style/Style.js';
export { default as Stroke } from 'ol/style/Stroke.js';
export { default as Fill } from 'ol/style/Fill.js';
export { default as Circle } from 'ol/style/Circle.js';
export { defaults as interactions } from 'ol/interaction/defaults.js';
export { getRenderPixel } from 'ol/render.js';
