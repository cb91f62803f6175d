//! `sardonyx completions`: a script that completes commands and options in a shell.

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, Verdict, print};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The shell; its manual says where the script belongs.
    shell: Shell,
}

pub(super) fn main(args: &Args) -> Verdict {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "sardonyx", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(true)
}
