//! `sardonyx man`: the manual, in the form that `man` shows.

use clap::{Command, CommandFactory};
use clap_mangen::Man;

use super::{Cli, Verdict, print};

pub(super) fn main() -> Verdict {
    let mut program = Cli::command();
    program.build();
    let mut page = Vec::new();
    let man = Man::new(program.clone());
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    for command in
        program.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help")
    {
        section(command, &mut page)?;
    }
    man.render_version_section(&mut page)?;
    print(&String::from_utf8_lossy(&page))?;
    Ok(true)
}

/// A command's part of the page. The parts of `clap_mangen` have headings of their own, which become smaller here.
fn section(command: &Command, page: &mut Vec<u8>) -> std::io::Result<()> {
    let name = command.get_name().to_string();
    let man = Man::new(command.clone().bin_name(format!("sardonyx {name}")));
    let mut part = Vec::new();
    man.render_synopsis_section(&mut part)?;
    man.render_description_section(&mut part)?;
    man.render_options_section(&mut part)?;
    man.render_extra_section(&mut part)?;
    let part = String::from_utf8_lossy(&part).replace("\n.SH ", "\n.SS ");
    let part = part.replace("\n.SS EXTRA\n", "\n.SS EXAMPLES\n.nf\n") + "\n.fi\n";
    let part = part.strip_prefix(".SH ").map_or(part.clone(), |rest| format!(".SS {rest}"));
    page.extend(format!(".SH \"SARDONYX {}\"\n{part}", name.to_uppercase()).into_bytes());
    Ok(())
}
