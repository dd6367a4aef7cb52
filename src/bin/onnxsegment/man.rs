//! `onnxsegment man`: the manual pages, made of what `--help` knows. For those who package or install the command.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use clap::{Args, CommandFactory};
use clap_mangen::Man;
use gstonnxsegment::files;

use crate::output::Output;

#[derive(Args)]
pub struct Arguments {
    /// Folder for one page per verb, onnxsegment.1, onnxsegment-eval.1, …; without it, the first is printed
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let mut command = crate::Line::command();
    // Gives the verbs their full names.
    command.build();
    let Some(folder) = arguments.output else {
        print!("{}", String::from_utf8(page(command)?.1).context("the manual page is no text")?);
        return Ok(());
    };
    std::fs::create_dir_all(&folder)
        .map_err(|e| anyhow!("{}: the folder cannot be made: {}", folder.display(), files::words(&e)))?;
    let verbs: Vec<_> =
        command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help").cloned().collect();
    for command in std::iter::once(command).chain(verbs) {
        let (name, text) = page(command)?;
        Output::create(&folder.join(name))?.write(&text)?;
    }
    Ok(())
}

/// A command's page and the name of its file.
fn page(command: clap::Command) -> Result<(String, Vec<u8>)> {
    let page = Man::new(command).source(concat!("onnxsegment ", env!("CARGO_PKG_VERSION"))).manual("onnxsegment");
    let mut text = Vec::new();
    page.render(&mut text).context("the manual page cannot be made")?;
    Ok((page.get_filename(), text))
}
