//! onnxsegment: raster frames in, ensembled segmentation masks out, on any GStreamer pipeline.

pub mod engine;
