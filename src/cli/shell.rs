//! What a shell and `man` want to know: completions and manual pages, made from the command line's own definition.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;

/// Print completions for a shell.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  syscall-monitor completions bash > /etc/bash_completion.d/syscall-monitor\n  \
                  syscall-monitor completions zsh > \"${fpath[1]}/_syscall-monitor\"\n  \
                  syscall-monitor completions fish > ~/.config/fish/completions/syscall-monitor.fish"
)]
pub struct CompletionsArgs {
    /// Which shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Write manual pages: one of the program, one of each command.
///
/// Without a folder the program's own page is printed.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  syscall-monitor man /usr/local/share/man/man8 && man syscall-monitor-history\n  \
                  syscall-monitor man | man -l -"
)]
pub struct ManArgs {
    /// Folder for the pages; it must exist
    pub dir: Option<PathBuf>,
}

pub fn completions(args: &CompletionsArgs) -> anyhow::Result<ExitCode> {
    let mut text = Vec::new();
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    clap_complete::generate(args.shell, &mut command, name, &mut text);
    std::io::stdout().lock().write_all(&text)?;
    Ok(ExitCode::SUCCESS)
}

pub fn man(args: &ManArgs) -> anyhow::Result<ExitCode> {
    let mut command = Cli::command();
    command.build();
    match &args.dir {
        None => std::io::stdout().lock().write_all(&page(&command)?)?,
        Some(dir) => {
            let count = pages(&command, dir)?;
            println!("{count} pages in {}", dir.display());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes the page of a command and those of the commands below it, and gives their number.
fn pages(command: &clap::Command, dir: &Path) -> anyhow::Result<usize> {
    let path = dir.join(format!("{}.8", name(command)));
    std::fs::write(&path, page(command)?)
        .with_context(|| format!("cannot write {}", path.display()))?;
    let mut count = 1;
    for below in command.get_subcommands() {
        if !below.is_hide_set() && below.get_name() != "help" {
            count += pages(below, dir)?;
        }
    }
    Ok(count)
}

/// `syscall-monitor-history-tree`, once the definition is built.
fn name(command: &clap::Command) -> &str {
    command
        .get_display_name()
        .unwrap_or_else(|| command.get_name())
}

fn page(command: &clap::Command) -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::new();
    clap_mangen::Man::new(command.clone())
        .title(name(command))
        .section("8")
        .manual("System Administration")
        .source(concat!("syscall-monitor ", env!("CARGO_PKG_VERSION")))
        .render(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_that_is_shown_has_a_page() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Cli::command();
        command.build();
        let count = pages(&command, dir.path()).unwrap();
        let names: Vec<String> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(names.len(), count);
        for name in [
            "syscall-monitor.8",
            "syscall-monitor-history-tree.8",
            "syscall-monitor-quarantine-release.8",
        ] {
            assert!(names.iter().any(|n| n == name), "{name} of {names:?}");
        }
        // What a person does not start has none.
        assert!(!names.iter().any(|n| n.contains("courier")));
        let text = std::fs::read_to_string(dir.path().join("syscall-monitor-history.8")).unwrap();
        assert!(text.starts_with(".") || text.contains(".TH"), "{text}");
        assert!(text.contains("container"));
    }

    #[test]
    fn completions_know_commands_and_filters() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "syscall-monitor", &mut text);
            let text = String::from_utf8(text).unwrap();
            assert!(
                text.contains("quarantine") && text.contains("severity"),
                "{shell}"
            );
        }
    }
}
