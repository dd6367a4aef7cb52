//! GDAL's reading.
