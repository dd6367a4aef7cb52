//! The statistics of a soup's BatchNormalization layers, taken anew from images.
//!
//! Averaged weights give activations of other means and variances than each member's, so averaged statistics do not
//! fit them (Izmailov et al. 2018). The model runs over tiles with its BatchNormalization in training
//! mode, where each layer normalises by its batch's own mean and population variance and gives both.
//!
//! Over batches they are combined as the mean and variance of all values together: the mean of the means, and the mean
//! of the variances plus the variance of the means, each batch counted by its tiles. PyTorch's `update_bn` leaves the
//! second term out, and takes sample variances; with one batch the two differ by n / (n − 1) alone.

use std::collections::HashMap;
use std::path::Path;

use half::f16;
use ort::value::DynValue;
use tempfile::TempDir;

use super::{Soup, set_floats};
use crate::engine::error::{Error, Result};
use crate::engine::onnx::schema::attribute_proto::AttributeType;
use crate::engine::onnx::schema::{AttributeProto, ModelProto, NodeProto, TypeProto, ValueInfoProto, type_proto};
use crate::engine::onnx::{self, OnnxFile, model};
use crate::engine::pixels::{Band, Conversion, Frame, FrameFormat, FrameView, Planes};
use crate::engine::runtime::{self, Model, OptimizationLevel, Policy, Provider, SessionGuard, SessionOptions};
use crate::engine::settings::{Activation, Fact, Facts, Source};
use crate::engine::spec::ModelSpec;
use crate::engine::stage::{Slot, Stage};
use crate::engine::tta::Transform;

/// Since this version of ONNX's operators the layer has a training mode that gives its batch's statistics.
const SINCE: i64 = 14;

/// How images are cut for statistics.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tiles {
    /// Side in pixels; `None` = what the model's metadata names, else 256. Rounded up to the model's multiple, and of no
    /// meaning for a model of fixed size.
    pub side: Option<usize>,
    /// Tiles that run together; `None` = 8. Of no meaning for a model of fixed batch size.
    pub batch: Option<usize>,
}

/// A soup's BatchNormalization layers while their statistics are taken.
pub struct Normalizations {
    spec: ModelSpec,
    session: SessionGuard,
    /// Holds the model that runs.
    _folder: TempDir,
    height: usize,
    width: usize,
    batch: usize,
    layers: Vec<Layer>,
    /// Tiles that wait for a batch to be full.
    waiting: Vec<Planes>,
    /// Tiles that have run.
    tiles: usize,
    stage: Stage,
}

struct Layer {
    /// Names of the initialisers.
    mean: String,
    variance: String,
    /// The outputs that give a batch's statistics; several pairs where nodes share a layer.
    outputs: Vec<[String; 2]>,
    /// Sums over the tiles and outputs: of the means, of their squares, of the variances.
    sums: [Vec<f64>; 3],
}

impl Soup {
    /// Whether the graph has BatchNormalization, anywhere.
    pub fn has_batch_norm(&self) -> bool {
        let functions = self.model.functions.iter().flat_map(|function| &function.node);
        self.model
            .graph
            .iter()
            .flat_map(|graph| &graph.node)
            .chain(functions)
            .any(|node| onnx::holds(node, is_normalization))
    }

    /// Makes ready for taking the statistics of the BatchNormalization layers. `None` when there are none. `name` is
    /// what messages call the model.
    ///
    /// # Errors
    /// Layers whose statistics cannot be taken, a model that is none of images, and what the runtime says.
    pub fn normalizations(&self, name: &Path, facts: &Facts, tiles: Tiles) -> Result<Option<Normalizations>> {
        let mut training = self.model.clone();
        let wrong = |problem: String| Error::model(name, problem);
        let layers = expose(&mut training).map_err(wrong)?;
        if layers.is_empty() {
            return Ok(None);
        }
        let failed = |e: std::io::Error| {
            Error::Runtime(format!("no temporary folder for the model can be made: {e}; set TMPDIR to one with space"))
        };
        let folder = TempDir::with_prefix("onnxsegment-").map_err(failed)?;
        let path = folder.path().join("training.onnx");
        model::write(&training, &path)?;
        let options = SessionOptions {
            providers: vec![Provider::Cpu],
            policy: Policy::Fallback,
            device_id: 0,
            // No layer is to be folded into its neighbour.
            optimization: OptimizationLevel::DisableAll,
            intra_threads: std::thread::available_parallelism().map_or(1, |n| n.get()),
            execution: Default::default(),
            sampled: false,
            bare: None,
        };
        let opened = Model::open(&path, &options, 1)?;
        // What the outputs mean is of no concern.
        let facts = Facts { activation: Some(Fact::new(Activation::None, Source::Default)), ..facts.clone() };
        let outputs = self.model.graph.as_ref().map_or(0, |graph| graph.output.len());
        let onnx = OnnxFile::of(training);
        let spec = ModelSpec::resolve(name, &onnx, &opened.inputs, &opened.outputs[..outputs], &facts)?;
        let told = spec.tiling.as_ref().ok().and_then(|tiling| Some(tiling.tile.as_ref()?.value));
        let side = tiles.side.or(told).unwrap_or(256).next_multiple_of(spec.input.size_multiple.value);
        Ok(Some(Normalizations {
            height: spec.input.height.unwrap_or(side),
            width: spec.input.width.unwrap_or(side),
            batch: spec.input.batch.or(tiles.batch).unwrap_or(8).max(1),
            spec,
            session: opened.session()?,
            _folder: folder,
            layers,
            waiting: Vec::new(),
            tiles: 0,
            stage: Stage::default(),
        }))
    }

    /// Gives the layers their new statistics, and returns the number of tiles that these are of.
    ///
    /// # Errors
    /// No tile at all, and what a run can meet.
    pub fn renormalize(&mut self, mut normalizations: Normalizations) -> Result<usize> {
        // A model of fixed batch size takes no smaller batch: its last tiles are left out.
        let fixed = normalizations.spec.input.batch.filter(|batch| *batch > 1);
        if fixed.is_none() {
            normalizations.run()?;
        }
        let Normalizations { tiles, layers, height, width, .. } = normalizations;
        if tiles == 0 {
            let batch =
                fixed.map_or(String::new(), |n| format!(", or fewer than the {n} that the model takes at a time"));
            let problem =
                format!("no tile of {width}x{height} pixels full of data{batch}; give more images, or smaller tiles");
            return Err(Error::setting("images", "", problem));
        }
        let weights = self.model.graph.iter_mut().flat_map(|graph| &mut graph.initializer);
        let mut weights: HashMap<_, _> = weights.map(|t| (t.name().to_string(), t)).collect();
        for layer in layers {
            let n = (tiles * layer.outputs.len()) as f64;
            let [means, squares, variances] = &layer.sums;
            let mean: Vec<f64> = means.iter().map(|m| m / n).collect();
            let of_means = squares.iter().zip(&mean).map(|(s, m)| (s / n - m * m).max(0.0));
            let variance: Vec<f64> = variances.iter().zip(of_means).map(|(v, of_means)| v / n + of_means).collect();
            for (name, values) in [(&layer.mean, mean), (&layer.variance, variance)] {
                if let Some(tensor) = weights.get_mut(name) {
                    set_floats(tensor, &values);
                }
            }
        }
        self.record.batch_norm_tiles = Some(tiles);
        self.note();
        Ok(tiles)
    }
}

impl Normalizations {
    /// Adds an image, cut into tiles that cover it evenly. Tiles with a pixel where `valid`, one byte per pixel, is 0 are
    /// left out; an image smaller than a tile is reflected.
    ///
    /// # Errors
    /// Pixels that the model cannot take, and what a run can meet.
    pub fn add(&mut self, image: &dyn Frame, valid: Option<&[u8]>) -> Result<()> {
        let view = image.view();
        view.check()?;
        let FrameFormat { width, height, .. } = view.format;
        let format = FrameFormat { width: width.min(self.width), height: height.min(self.height), ..view.format };
        let mut conversion = Conversion::plan(&self.spec.input, &format)?;
        (conversion.height, conversion.width) = (self.height, self.width);
        for y in starts(height, format.height) {
            for x in starts(width, format.width) {
                let row = |y: usize| y * width + x..y * width + x + format.width;
                if valid.is_some_and(|valid| (y..y + format.height).any(|y| valid[row(y)].contains(&0))) {
                    continue;
                }
                let cut = |band: &Band<'_>| band.data.len().min(y * band.stride + x * band.step);
                let bands = view.bands.iter().map(|band| Band { data: &band.data[cut(band)..], ..*band }).collect();
                self.waiting.push(conversion.run(&FrameView { format, bands }, None));
                if self.waiting.len() == self.batch {
                    self.run()?;
                }
            }
        }
        Ok(())
    }

    /// Runs the tiles that wait.
    fn run(&mut self) -> Result<()> {
        let tiles = std::mem::take(&mut self.waiting);
        if tiles.is_empty() {
            return Ok(());
        }
        let wrong = |problem: String| Error::model(&self.spec.path, problem);
        let failed = |e: ort::Error| {
            wrong(format!(
                "ONNX Runtime cannot run it with BatchNormalization in training mode on {} tiles of {}x{}: {}",
                tiles.len(),
                self.width,
                self.height,
                runtime::reason(e)
            ))
        };
        let slots: Vec<Slot> = tiles.iter().map(|planes| Slot { planes, transform: Transform::Identity }).collect();
        let size = (self.height, self.width);
        let input = self.stage.prepare(&self.spec, &slots, slots.len(), size).map_err(failed)?;
        let outputs = self.session.run([input]).map_err(failed)?;
        for layer in &mut self.layers {
            for pair in &layer.outputs {
                let [mean, variance] = pair.each_ref().map(|name| outputs.get(name).and_then(values));
                let (Some(mean), Some(variance)) = (mean, variance) else {
                    return Err(wrong("a BatchNormalization layer gave no statistics".into()));
                };
                if mean.iter().chain(&variance).any(|v| !v.is_finite()) {
                    return Err(wrong(format!("the statistics of `{}` are not finite on these images", layer.mean)));
                }
                let squares = mean.iter().map(|m| m * m).collect();
                for (sum, values) in layer.sums.iter_mut().zip([mean, squares, variance]) {
                    sum.resize(values.len(), 0.0);
                    sum.iter_mut().zip(values).for_each(|(sum, v)| *sum += v * tiles.len() as f64);
                }
            }
        }
        self.tiles += tiles.len();
        Ok(())
    }
}

/// Where tiles of `tile` pixels begin that cover `length` evenly.
fn starts(length: usize, tile: usize) -> impl Iterator<Item = usize> {
    let count = length.div_ceil(tile);
    (0..count).map(move |k| k * (length - tile) / (count - 1).max(1))
}

fn values(output: &DynValue) -> Option<Vec<f64>> {
    if let Ok((_, values)) = output.try_extract_tensor::<f32>() {
        return Some(values.iter().map(|v| f64::from(*v)).collect());
    }
    if let Ok((_, values)) = output.try_extract_tensor::<f16>() {
        return Some(values.iter().map(|v| f64::from(*v)).collect());
    }
    output.try_extract_tensor::<f64>().ok().map(|(_, values)| values.to_vec())
}

/// Turns BatchNormalization to training mode, and makes what it finds of a batch outputs of the model.
///
/// # Errors
/// Layers that have no training mode, that lie in graphs within nodes, or whose statistics are no weights.
fn expose(model: &mut ModelProto) -> Result<Vec<Layer>, String> {
    let version = onnx::operator_set(model);
    let nested =
        model.functions.iter().any(|function| function.node.iter().any(|node| onnx::holds(node, is_normalization)));
    let Some(graph) = &mut model.graph else { return Ok(Vec::new()) };
    if nested || graph.node.iter().any(|node| !is_normalization(node) && onnx::holds(node, is_normalization)) {
        return Err("has BatchNormalization in functions or in graphs within nodes, where its statistics cannot be \
                    taken; export the model with these inlined"
            .into());
    }
    let mut layers: Vec<Layer> = Vec::new();
    for (k, node) in graph.node.iter_mut().enumerate().filter(|(_, node)| is_normalization(node)) {
        if version < SINCE {
            return Err(format!(
                "is of operator set {version}, and the statistics of BatchNormalization can be taken from {SINCE} on; \
                 export the model with a newer one, or average without images"
            ));
        }
        let [.., mean, variance] = &node.input[..] else {
            return Err(format!("node {k}, BatchNormalization, has no statistics; export the model anew"));
        };
        let weight = |name: &String| graph.initializer.iter().find(|tensor| tensor.name() == name);
        let (Some(kind), Some(_)) = (weight(mean).map(|t| t.data_type()), weight(variance)) else {
            return Err(format!(
                "node {k}, BatchNormalization, computes its statistics: they are no weights that could be replaced"
            ));
        };
        let outputs = ["mean", "variance"].map(|what| format!("onnxsegment/{k}/{what}"));
        match layers.iter_mut().find(|layer| layer.mean == *mean && layer.variance == *variance) {
            Some(layer) => layer.outputs.push(outputs.clone()),
            None => layers.push(Layer {
                mean: mean.clone(),
                variance: variance.clone(),
                outputs: vec![outputs.clone()],
                sums: Default::default(),
            }),
        }
        node.output.truncate(1);
        node.output.extend(outputs.clone());
        node.attribute.retain(|a| !matches!(a.name(), "training_mode" | "momentum"));
        let attribute = |name: &str| AttributeProto { name: Some(name.into()), ..Default::default() };
        node.attribute.push(AttributeProto {
            r#type: Some(AttributeType::Int as i32),
            i: Some(1),
            ..attribute("training_mode")
        });
        // What came before counts for nothing.
        node.attribute.push(AttributeProto {
            r#type: Some(AttributeType::Float as i32),
            f: Some(0.0),
            ..attribute("momentum")
        });
        let tensor = type_proto::Tensor { elem_type: Some(kind), shape: None };
        let value = Some(type_proto::Value::TensorType(tensor));
        graph.output.extend(outputs.map(|name| ValueInfoProto {
            name: Some(name),
            r#type: Some(TypeProto { value: value.clone(), ..Default::default() }),
            ..Default::default()
        }));
    }
    Ok(layers)
}

fn is_normalization(node: &NodeProto) -> bool {
    onnx::is(node, "BatchNormalization")
}
