//! NVIDIA's driver and GPUs.

use std::path::Path;
use std::process::Command;

use super::Part;
use super::gstreamer::in_path;
use super::runtime::dlopen;

pub fn look() -> Part {
    let mut part = Part::new("GPU");
    const PURPOSE: &str = "execution-provider=cuda and tensorrt";
    const GET: &str =
        "only for GPUs: install NVIDIA's driver (apt-get install nvidia-driver); in a container, start it with the GPU";
    match dlopen(Path::new("libcuda.so.1"), libc::RTLD_LAZY | libc::RTLD_LOCAL) {
        Ok(_) => part.ok("libcuda.so.1", "found", PURPOSE),
        Err(e) => part.note("libcuda.so.1", e, PURPOSE, GET),
    }
    match gpus() {
        Ok(gpus) => gpus.iter().for_each(|gpu| part.ok("GPU", gpu, PURPOSE)),
        Err(e) => part.note("nvidia-smi", e, PURPOSE, ""),
    }
    part
}

/// The GPUs with their memory and driver, as NVIDIA's own tool lists them.
fn gpus() -> Result<Vec<String>, String> {
    let program = in_path("nvidia-smi").ok_or("not in PATH")?;
    let query = ["--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"];
    let out = Command::new(program).args(query).output().map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&out.stdout);
    let lines: Vec<String> = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(described).collect();
    match out.status.success() && !lines.is_empty() {
        true => Ok(lines),
        false => Err(format!("finds no GPU: {}", text.lines().next().unwrap_or("it says nothing").trim())),
    }
}

fn described(line: &str) -> String {
    match line.split(',').map(str::trim).collect::<Vec<_>>()[..] {
        [name, memory, driver] => format!("{name}, {memory}, driver {driver}"),
        _ => line.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_nvidia_smi_becomes_words() {
        assert_eq!(described("NVIDIA H100, 81559 MiB, 550.54"), "NVIDIA H100, 81559 MiB, driver 550.54");
        assert_eq!(described("anything else"), "anything else");
    }
}
