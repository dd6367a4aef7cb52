//! `onnxsegment completions`: what a shell needs to complete this command's verbs, options and files.

use anyhow::{Context, Result};
use clap::{Args, CommandFactory};
use clap_complete::Shell;

#[derive(Args)]
#[command(after_help = "For instance:\n  \
    onnxsegment completions bash > ~/.local/share/bash-completion/completions/onnxsegment\n  \
    onnxsegment completions zsh > ~/.local/share/zsh/site-functions/_onnxsegment\n  \
    onnxsegment completions fish > ~/.local/share/fish/vendor_completions.d/onnxsegment.fish")]
pub struct Arguments {
    /// The shell to write them for
    shell: Shell,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let mut script = Vec::new();
    let mut command = crate::Line::command();
    clap_complete::generate(arguments.shell, &mut command, "onnxsegment", &mut script);
    print!("{}", String::from_utf8(script).context("the completions are no text")?);
    Ok(())
}
