//! Finds ONNX Runtime, opens sessions, chooses execution providers and reports what really runs.
//!
//! Nothing links to ONNX Runtime or CUDA: the library is looked for when the first model is opened.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CStr, CString};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, OnceLock, Weak};
use std::time::SystemTime;

use ort::ep::{self, ExecutionProvider as _, ExecutionProviderDispatch};
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::value::ValueType;
use prost::Message;
use serde::{Deserialize, Serialize};

use super::dropout;
use super::error::{Error, Result};
use super::lock;
use super::onnx::{model, softmax};
use super::settings::Named;
use super::spec::Port;

/// Hardware back ends of ONNX Runtime that this program can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Provider {
    Cpu,
    Cuda,
    TensorRt,
}

impl Named for Provider {
    const NAMES: &'static [(&'static str, Self)] =
        &[("cpu", Provider::Cpu), ("cuda", Provider::Cuda), ("tensorrt", Provider::TensorRt)];
}

/// What to do when a listed provider is not to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Policy {
    /// Warn, and go on with the next.
    #[default]
    Fallback,
    /// Refuse to run.
    Strict,
}

impl Named for Policy {
    const NAMES: &'static [(&'static str, Self)] = &[("fallback", Policy::Fallback), ("strict", Policy::Strict)];
}

/// ONNX Runtime's graph optimisation levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OptimizationLevel {
    DisableAll,
    EnableBasic,
    EnableExtended,
    #[default]
    EnableAll,
}

impl Named for OptimizationLevel {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("disable-all", OptimizationLevel::DisableAll),
        ("enable-basic", OptimizationLevel::EnableBasic),
        ("enable-extended", OptimizationLevel::EnableExtended),
        ("enable-all", OptimizationLevel::EnableAll),
    ];
}

/// How cuDNN picks a convolution algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CudnnSearch {
    Exhaustive,
    /// Frame sizes vary in this program, and an exhaustive search repeats for each.
    #[default]
    Heuristic,
    Default,
}

/// `[cuda]` of a configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct CudaOptions {
    /// TensorFloat-32 in convolutions: faster, with a 10-bit mantissa. Off, so that the GPU agrees with the CPU.
    pub tf32: bool,
    /// Bytes that the device arena may take; unset = all.
    pub memory_limit: Option<usize>,
    pub cudnn_search: CudnnSearch,
}

/// `[tensorrt]` of a configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct TensorRtOptions {
    /// Half precision where TensorRT finds it faster.
    pub fp16: bool,
    /// Bytes of workspace; unset = TensorRT's own default.
    pub workspace: Option<usize>,
    /// Folder where built engines are kept between runs; unset = built anew each time.
    pub engine_cache: Option<PathBuf>,
}

/// Provider options.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Execution {
    pub cuda: CudaOptions,
    pub tensorrt: TensorRtOptions,
}

/// All that makes two sessions of one file interchangeable.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SessionOptions {
    /// In the order of preference.
    pub providers: Vec<Provider>,
    pub policy: Policy,
    pub device_id: i32,
    pub optimization: OptimizationLevel,
    /// Threads that one run spreads over.
    pub intra_threads: usize,
    pub execution: Execution,
    /// The model's Dropout draws from an input; see `dropout`.
    pub sampled: bool,
    /// The output that gives what its softmax takes; see `onnx::softmax`.
    pub bare: Option<String>,
}

impl Default for SessionOptions {
    fn default() -> Self {
        SessionOptions {
            providers: vec![Provider::Cpu],
            policy: Policy::Fallback,
            device_id: 0,
            optimization: OptimizationLevel::default(),
            intra_threads: 1,
            execution: Execution::default(),
            sampled: false,
            bare: None,
        }
    }
}

impl SessionOptions {
    /// What runs instead of a model's file; `None` where the file itself does.
    ///
    /// # Errors
    /// A file that is no model, Dropout that cannot be made to draw, and a softmax that was there before and is not now.
    fn changed(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        if !self.sampled && self.bare.is_none() {
            return Ok(None);
        }
        let mut model = model::read(path)?;
        if self.sampled {
            dropout::sample(path, &mut model)?;
        }
        // Its scores would be taken for what they are not.
        if let Some(output) = self.bare.as_ref().filter(|output| !softmax::remove(&mut model, output)) {
            let problem = format!("has changed since it was opened: `{output}` ends in no softmax now; start again");
            return Err(Error::model(path, problem));
        }
        Ok(Some(model.encode_to_vec()))
    }
}

/// Receives ONNX Runtime's own log lines: severity and text.
pub type LogSink = fn(ort::logging::LogLevel, &str);

static LOG_SINK: OnceLock<LogSink> = OnceLock::new();

/// Sends ONNX Runtime's log to `sink` instead of standard error. The first call counts.
pub fn set_log_sink(sink: LogSink) {
    LOG_SINK.get_or_init(|| sink);
}

/// The loaded library: one for the whole process, as ONNX Runtime wants it.
struct Runtime {
    environment: ort::environment::Environment,
    library: PathBuf,
}

/// The command that installs ONNX Runtime for this program.
const INSTALL: &str = "run `make setup` in the onnxsegment source folder, or set ORT_DYLIB_PATH to a libonnxruntime.so of version 1.20 or newer";

/// Folders of the library search, in order, after `ORT_DYLIB_PATH`.
fn search_folders() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    let data = std::env::var_os("XDG_DATA_HOME").filter(|v| !v.is_empty()).map(PathBuf::from);
    let data = data.or_else(|| std::env::home_dir().map(|home| home.join(".local/share")));
    folders.extend(data.map(|d| d.join("onnxsegment/onnxruntime")));
    if let Some(paths) = std::env::var_os("LD_LIBRARY_PATH") {
        folders.extend(std::env::split_paths(&paths).filter(|p| !p.as_os_str().is_empty()));
    }
    let triplet = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    for folder in ["/usr/local/lib", triplet.as_str(), "/usr/lib64", "/usr/lib", "/opt/onnxruntime/lib"] {
        folders.push(folder.into());
    }
    folders
}

/// `libonnxruntime.so`, or the highest `libonnxruntime.so.X.Y` of a folder.
fn library_in(folder: &Path) -> Option<PathBuf> {
    let plain = folder.join("libonnxruntime.so");
    if plain.exists() {
        return Some(plain);
    }
    let version = |name: &str| -> Option<Vec<u32>> {
        name.strip_prefix("libonnxruntime.so.")?.split('.').map(|n| n.parse().ok()).collect()
    };
    let entries = std::fs::read_dir(folder).ok()?.flatten();
    entries.filter_map(|e| Some((version(e.file_name().to_str()?)?, e.path()))).max().map(|(_, path)| path)
}

fn find_runtime() -> Result<Runtime> {
    let mut searched = Vec::new();
    let candidates: Vec<PathBuf> = match std::env::var_os("ORT_DYLIB_PATH").filter(|v| !v.is_empty()) {
        Some(path) => {
            searched.push(format!("ORT_DYLIB_PATH={}", path.to_string_lossy()));
            vec![path.into()]
        }
        None => {
            let folders = search_folders();
            searched.extend(folders.iter().map(|f| f.display().to_string()));
            folders.iter().filter_map(|f| library_in(f)).collect()
        }
    };
    let mut failures = String::new();
    for library in candidates {
        if library.components().count() > 1 && !library.exists() {
            failures.push_str(&format!(" {} does not exist.", library.display()));
            continue;
        }
        let environment = ort::init_from(&library).map_err(|e| e.to_string()).and_then(|builder| {
            builder
                .with_name("onnxsegment")
                .with_telemetry(false)
                .with_logger(Arc::new(|level, _, _, _, text| match LOG_SINK.get() {
                    Some(sink) => sink(level, text),
                    None if level >= ort::logging::LogLevel::Error => eprintln!("onnxruntime: {text}"),
                    None => {}
                }))
                .build()
                .map_err(|e| e.to_string())
        });
        match environment {
            Ok(environment) => return Ok(Runtime { environment, library }),
            Err(e) => failures.push_str(&format!(
                " {} cannot be used: {e}; `ldd` tells whether it is a library for this machine and what it lacks.",
                library.display()
            )),
        }
    }
    Err(Error::Runtime(format!(
        "ONNX Runtime's library was not found: looked for libonnxruntime.so in {}.{failures} To get it, {INSTALL}",
        searched.join(", ")
    )))
}

/// The library, found once; a failure is tried again at the next call, as the user may have installed it since.
fn runtime() -> Result<&'static Runtime> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    static FINDING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = lock(&FINDING);
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let found = find_runtime()?;
    Ok(RUNTIME.get_or_init(|| found))
}

/// Path of the ONNX Runtime library in use.
///
/// # Errors
/// No library, with the places that were searched.
pub fn library_path() -> Result<&'static Path> {
    Ok(&runtime()?.library)
}

/// Version of the ONNX Runtime library in use, such as `1.31.0`.
///
/// # Errors
/// No library, with the places that were searched.
pub fn version() -> Result<String> {
    let path = library_path()?;
    let failed = || Error::Runtime(format!("{} does not tell its version", path.display()));
    let name = CString::new(path.as_os_str().as_encoded_bytes()).map_err(|_| failed())?;
    // SAFETY: the library is loaded already, so that no code of it runs here but the two calls that are made, which take
    // nothing; it stays loaded, and with it the text, which is static.
    unsafe {
        let library = libc::dlopen(name.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD);
        if library.is_null() {
            return Err(failed());
        }
        let symbol = libc::dlsym(library, c"OrtGetApiBase".as_ptr());
        if symbol.is_null() {
            return Err(failed());
        }
        let api_base: unsafe extern "system" fn() -> *const ort::sys::OrtApiBase = std::mem::transmute(symbol);
        let text = ((*api_base()).GetVersionString)();
        Ok(CStr::from_ptr(text).to_string_lossy().into_owned())
    }
}

/// The execution providers that this library has, whether or not there is a device for them.
///
/// # Errors
/// No library, with the places that were searched.
pub fn providers() -> Result<Vec<&'static str>> {
    environment()?;
    let has = |provider: &Provider| match provider {
        Provider::Cpu => true,
        Provider::Cuda => ep::CUDA::is_available().unwrap_or(false),
        Provider::TensorRt => ep::TensorRT::is_available().unwrap_or(false),
    };
    Ok([Provider::TensorRt, Provider::Cuda, Provider::Cpu].iter().filter(|p| has(p)).map(|p| p.name()).collect())
}

/// The process's ONNX Runtime environment, of which there can be only one: for programs that open sessions of their
/// own beside the engine's.
///
/// # Errors
/// No library, with the places that were searched.
pub fn environment() -> Result<&'static ort::environment::Environment> {
    Ok(&runtime()?.environment)
}

/// Removes what ONNX Runtime prints for its own developers: source paths and line numbers.
pub(super) fn reason(e: impl fmt::Display) -> String {
    let text = e.to_string();
    let first = text.lines().next().unwrap_or_default();
    let text = first.rsplit_once(".cc:").map_or(first, |(_, tail)| tail.split_once(' ').map_or(tail, |(_, t)| t));
    text.trim().trim_end_matches('.').to_string()
}

fn dispatch(provider: Provider, options: &SessionOptions) -> Option<ExecutionProviderDispatch> {
    match provider {
        Provider::Cpu => None, // always there, always last
        Provider::Cuda => {
            let o = &options.execution.cuda;
            let mut cuda = ep::CUDA::default()
                .with_device_id(options.device_id)
                .with_tf32(o.tf32)
                .with_conv_algorithm_search(match o.cudnn_search {
                    CudnnSearch::Exhaustive => ep::cuda::ConvAlgorithmSearch::Exhaustive,
                    CudnnSearch::Heuristic => ep::cuda::ConvAlgorithmSearch::Heuristic,
                    CudnnSearch::Default => ep::cuda::ConvAlgorithmSearch::Default,
                });
            if let Some(limit) = o.memory_limit {
                cuda = cuda.with_memory_limit(limit);
            }
            Some(cuda.build())
        }
        Provider::TensorRt => {
            let o = &options.execution.tensorrt;
            let mut trt = ep::TensorRT::default().with_device_id(options.device_id).with_fp16(o.fp16);
            if let Some(bytes) = o.workspace {
                trt = trt.with_max_workspace_size(bytes);
            }
            if let Some(folder) = &o.engine_cache {
                trt = trt.with_engine_cache(true).with_engine_cache_path(folder.display());
            }
            Some(trt.build())
        }
    }
}

/// A builder with all but the providers set.
fn builder(options: &SessionOptions) -> Result<SessionBuilder> {
    let level = match options.optimization {
        OptimizationLevel::DisableAll => GraphOptimizationLevel::Disable,
        OptimizationLevel::EnableBasic => GraphOptimizationLevel::Level1,
        OptimizationLevel::EnableExtended => GraphOptimizationLevel::Level2,
        OptimizationLevel::EnableAll => GraphOptimizationLevel::All,
    };
    let failed = |e: String| Error::Runtime(format!("ONNX Runtime refused the session's settings: {e}"));
    SessionBuilder::new(&runtime()?.environment)
        .map_err(|e| failed(e.to_string()))?
        .with_optimization_level(level)
        .map_err(|e| failed(e.to_string()))?
        .with_intra_threads(options.intra_threads)
        .map_err(|e| failed(e.to_string()))?
        // Idle threads that spin would take the cores from the other sessions.
        .with_intra_op_spinning(false)
        .map_err(|e| failed(e.to_string()))?
        // On the CPU a session keeps what it took piece by piece at the first run of a size, and with a pattern takes the
        // sum of it again, in one piece, at the second: twice the memory, to be fetched from the system for every size and
        // session, for runs that take as long.
        .with_memory_pattern(options.providers.iter().any(|provider| *provider != Provider::Cpu))
        .map_err(|e| failed(e.to_string()))
}

/// Asks ONNX Runtime for a provider, without a model: why it cannot be had.
///
/// # Errors
/// No library.
pub fn try_provider(provider: Provider) -> Result<Result<(), String>> {
    let options = SessionOptions { providers: vec![provider], ..SessionOptions::default() };
    let mut builder = builder(&options)?;
    let registered = dispatch(provider, &options).map(|dispatch| dispatch.register(&mut builder).map_err(reason));
    Ok(registered.unwrap_or(Ok(())))
}

/// Opens one session on the first providers of the list that can be had.
///
/// `unavailable` collects, for each provider that cannot, why.
fn open(path: &Path, options: &SessionOptions, unavailable: &mut BTreeMap<&'static str, String>) -> Result<Session> {
    let changed = options.changed(path)?;
    let mut usable: Vec<Provider> = options.providers.clone();
    usable.retain(|p| !unavailable.contains_key(p.name()));
    loop {
        let mut attempt = builder(options)?;
        let before = unavailable.len();
        let mut registered = Vec::new();
        for provider in &usable {
            let Some(dispatch) = dispatch(*provider, options) else {
                continue;
            };
            match dispatch.register(&mut attempt) {
                Ok(()) => registered.push(*provider),
                Err(e) => {
                    unavailable.insert(provider.name(), reason(e));
                }
            }
        }
        if options.policy == Policy::Strict && unavailable.len() > before {
            return Err(missing(options, unavailable, STRICT));
        }
        let session = match &changed {
            Some(bytes) => attempt.commit_from_memory(bytes),
            None => attempt.commit_from_file(path),
        };
        match session {
            Ok(session) => return Ok(session),
            // A provider may fail only when the session is made (no device, no engine): try without it.
            Err(e) if !registered.is_empty() => {
                unavailable.insert(registered[0].name(), reason(&e));
                if options.policy == Policy::Strict {
                    return Err(missing(options, unavailable, STRICT));
                }
                usable.retain(|p| *p != registered[0]);
            }
            Err(e) => {
                return Err(Error::Model {
                    file: path.display().to_string(),
                    problem: format!("ONNX Runtime cannot load this model: {}", reason(e)),
                });
            }
        }
    }
}

const STRICT: &str = "provider-policy=strict forbids going on without it; set provider-policy=fallback, or execution-provider=cpu, to run on the CPU";

/// The text for providers that are not to be had.
fn missing(options: &SessionOptions, unavailable: &BTreeMap<&'static str, String>, then: &str) -> Error {
    let names: Vec<_> = options.providers.iter().map(|p| p.name()).collect();
    let why: Vec<_> = unavailable.iter().map(|(name, why)| format!("{name} cannot be used here ({why})")).collect();
    Error::Provider(format!(
        "execution-provider={}: {}; {then}. A GPU needs NVIDIA's driver, CUDA and cuDNN, and ONNX Runtime for GPU \
         (`make setup ORT=gpu`)",
        names.join(","),
        why.join(", ")
    ))
}

/// One model file, opened as often as passes run side by side, shared by everything in this process that uses the
/// same file, options and providers.
pub struct Model {
    path: PathBuf,
    options: SessionOptions,
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
    /// Why listed providers do not run, for one warning.
    pub warning: Option<String>,
    active: Mutex<Option<String>>,
    unavailable: Mutex<BTreeMap<&'static str, String>>,
    pool: Mutex<Pool>,
    returned: Condvar,
}

struct Pool {
    idle: Vec<Session>,
    open: usize,
    most: usize,
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model").field("path", &self.path).finish_non_exhaustive()
    }
}

type ModelKey = (PathBuf, u64, Option<SystemTime>, SessionOptions);

fn registry() -> &'static Mutex<HashMap<ModelKey, Weak<Model>>> {
    static REGISTRY: OnceLock<Mutex<HashMap<ModelKey, Weak<Model>>>> = OnceLock::new();
    REGISTRY.get_or_init(Default::default)
}

impl Model {
    /// Opens a model, or finds it open already. Up to `most` of its sessions run at a time.
    ///
    /// # Errors
    /// No ONNX Runtime, a file that it cannot load, or (strict) a provider that cannot be had.
    pub fn open(path: &Path, options: &SessionOptions, most: usize) -> Result<Arc<Model>> {
        let metadata = std::fs::metadata(path)
            .map_err(|e| Error::file("model-file", path, format!("cannot be read: {e}; check the path")))?;
        let canonical = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        let key = (canonical, metadata.len(), metadata.modified().ok(), options.clone());
        let mut registry = lock(registry());
        registry.retain(|_, model| model.strong_count() > 0);
        if let Some(model) = registry.get(&key).and_then(Weak::upgrade) {
            let mut pool = lock(&model.pool);
            pool.most = pool.most.max(most);
            drop(pool);
            return Ok(model);
        }
        let mut unavailable = BTreeMap::new();
        let session = open(path, options, &mut unavailable)?;
        let warning = (!unavailable.is_empty()).then(|| {
            let rest: Vec<_> = options.providers.iter().filter(|p| !unavailable.contains_key(p.name())).collect();
            let next = rest.first().map_or("cpu", |p| p.name());
            missing(options, &unavailable, &format!("running on {next} instead")).to_string()
        });
        let model = Arc::new(Model {
            path: path.to_path_buf(),
            options: options.clone(),
            inputs: session.inputs().iter().map(port).collect(),
            outputs: session.outputs().iter().map(port).collect(),
            warning,
            active: Mutex::new(None),
            unavailable: Mutex::new(unavailable),
            pool: Mutex::new(Pool { idle: vec![session], open: 1, most }),
            returned: Condvar::new(),
        });
        registry.insert(key, Arc::downgrade(&model));
        Ok(model)
    }

    /// Whether the sessions run on a GPU.
    pub fn on_gpu(&self) -> bool {
        let unavailable = lock(&self.unavailable);
        self.options.providers.iter().any(|p| *p != Provider::Cpu && !unavailable.contains_key(p.name()))
    }

    /// Takes a session, opening another while fewer than the limit are open, else waiting for one.
    ///
    /// # Errors
    /// A further session that cannot be opened.
    pub fn session(self: &Arc<Self>) -> Result<SessionGuard> {
        let mut pool = lock(&self.pool);
        loop {
            if let Some(session) = pool.idle.pop() {
                return Ok(SessionGuard { model: self.clone(), session: Some(session) });
            }
            if pool.open < pool.most {
                pool.open += 1;
                break;
            }
            pool = self.returned.wait(pool).unwrap_or_else(|e| e.into_inner());
        }
        drop(pool);
        match self.separate_session() {
            Ok(session) => Ok(SessionGuard { model: self.clone(), session: Some(session) }),
            Err(e) => {
                lock(&self.pool).open -= 1;
                self.returned.notify_one();
                Err(e)
            }
        }
    }

    /// A session that is not of the pool and is closed after use.
    ///
    /// # Errors
    /// What opening a session can meet.
    pub fn separate_session(&self) -> Result<Session> {
        let mut unavailable = lock(&self.unavailable).clone();
        open(&self.path, &self.options, &mut unavailable)
    }

    /// The providers that really run this model's operators, read back from a profile of one run, the busiest first.
    ///
    /// `probe` runs the given session once.
    ///
    /// # Errors
    /// What the probe or the runtime says.
    pub fn active_provider(&self, probe: impl FnOnce(&mut Session) -> Result<()>) -> Result<String> {
        if let Some(active) = lock(&self.active).clone() {
            return Ok(active);
        }
        let active = if self.on_gpu() { self.profile(probe)? } else { Provider::Cpu.name().to_string() };
        *lock(&self.active) = Some(active.clone());
        Ok(active)
    }

    fn profile(&self, probe: impl FnOnce(&mut Session) -> Result<()>) -> Result<String> {
        let failed = |e: String| Error::Runtime(format!("the running provider cannot be read back: {e}"));
        let prefix = std::env::temp_dir().join(format!("onnxsegment-profile-{}", std::process::id()));
        let mut builder = builder(&self.options)?.with_profiling(&prefix).map_err(|e| failed(e.to_string()))?;
        let unavailable = lock(&self.unavailable).clone();
        for provider in self.options.providers.iter().filter(|p| !unavailable.contains_key(p.name())) {
            if let Some(dispatch) = dispatch(*provider, &self.options) {
                dispatch.register(&mut builder).map_err(|e| failed(e.to_string()))?;
            }
        }
        let session = match self.options.changed(&self.path)? {
            Some(bytes) => builder.commit_from_memory(&bytes),
            None => builder.commit_from_file(&self.path),
        };
        let mut session = session.map_err(|e| failed(e.to_string()))?;
        probe(&mut session)?;
        let file = session.end_profiling().map_err(|e| failed(e.to_string()))?;
        let text = std::fs::read_to_string(&file).map_err(|e| failed(e.to_string()))?;
        let _ = std::fs::remove_file(&file); // a leftover in the temporary folder does no harm
        providers_of_profile(&text).ok_or_else(|| failed("its profile names no provider".into()))
    }
}

/// Reads the providers of a profile's operators, the one with most operators first.
fn providers_of_profile(text: &str) -> Option<String> {
    let events: serde_json::Value = serde_json::from_str(text).ok()?;
    let mut counts: HashMap<String, usize> = HashMap::new();
    for event in events.as_array()? {
        if let Some(provider) = event.pointer("/args/provider").and_then(|p| p.as_str()) {
            *counts.entry(provider.to_string()).or_default() += 1;
        }
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    let names: Vec<String> = counts
        .into_iter()
        .map(|(name, _)| match name.trim_end_matches("ExecutionProvider") {
            "CPU" => "cpu".into(),
            "CUDA" => "cuda".into(),
            "Tensorrt" => "tensorrt".into(),
            other => other.to_lowercase(),
        })
        .collect();
    (!names.is_empty()).then(|| names.join(","))
}

fn port(outlet: &ort::value::Outlet) -> Port {
    let (element, shape) = match outlet.dtype() {
        ValueType::Tensor { ty, shape, .. } => (element_name(*ty), shape.to_vec()),
        other => (format!("{other:?}"), Vec::new()),
    };
    Port { name: outlet.name().to_string(), element, shape }
}

fn element_name(ty: ort::value::TensorElementType) -> String {
    use ort::value::TensorElementType as T;
    match ty {
        T::Float32 => "float32".into(),
        T::Float16 => "float16".into(),
        T::Uint8 => "uint8".into(),
        T::Int64 => "int64".into(),
        T::Int32 => "int32".into(),
        other => format!("{other:?}").to_lowercase(),
    }
}

/// A session on loan; it goes back to its model when dropped.
pub struct SessionGuard {
    model: Arc<Model>,
    session: Option<Session>,
}

impl Deref for SessionGuard {
    type Target = Session;
    fn deref(&self) -> &Session {
        self.session.as_ref().expect("held until dropped")
    }
}

impl DerefMut for SessionGuard {
    fn deref_mut(&mut self) -> &mut Session {
        self.session.as_mut().expect("held until dropped")
    }
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            lock(&self.model.pool).idle.push(session);
            self.model.returned.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_names_its_providers_by_weight() {
        let text = r#"[{"args":{}},{"args":{"provider":"CPUExecutionProvider"}},
            {"args":{"provider":"CUDAExecutionProvider"}},{"args":{"provider":"CUDAExecutionProvider"}}]"#;
        assert_eq!(providers_of_profile(text).as_deref(), Some("cuda,cpu"));
        assert_eq!(providers_of_profile("[]"), None);
    }

    #[test]
    fn a_model_that_lost_its_softmax_is_not_taken_for_one_without() {
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
        let options = SessionOptions { bare: Some("scores".into()), ..SessionOptions::default() };
        assert!(options.changed(&models.join("softmax4.onnx")).unwrap().is_some());
        let error = options.changed(&models.join("logits4.onnx")).unwrap_err().to_string();
        assert!(error.contains("has changed since it was opened"), "{error}");
    }

    #[test]
    fn the_highest_version_of_a_folder_is_taken() {
        let folder = std::env::temp_dir().join(format!("onnxsegment-lib-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for name in ["libonnxruntime.so.1.9.0", "libonnxruntime.so.1.21", "libonnxruntime.so.backup"] {
            std::fs::write(folder.join(name), "").unwrap();
        }
        assert_eq!(library_in(&folder), Some(folder.join("libonnxruntime.so.1.21")));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
