//! Events into a file.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;

use super::list::Writer;
use super::progress::Bar;
use super::reader::Reader;
use crate::cli::args::{Filters, Output, StoreArgs};
use crate::config::Config;
use crate::query::{Spec, Watch};

/// Writes events to a file, oldest first, as they are read: any number of them in little memory.
///
/// All of the history unless filters say otherwise. A name that ends in .zst or .gz is compressed.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  syscall-monitor history export events.jsonl.zst\n  \
    syscall-monitor history export --since 7d --container openclaw-gateway --output raw audit.log && ausearch -if audit.log -i\n  \
    syscall-monitor history export - --output csv --severity medium > events.csv"
)]
pub struct ExportArgs {
    /// File to write; - is standard output
    file: PathBuf,
    #[command(flatten)]
    filters: Filters,
    #[command(flatten)]
    store: StoreArgs,
    /// How to write it
    #[arg(long, short, value_enum, default_value_t = Output::Jsonl)]
    output: Output,
    /// Write over a file that is there
    #[arg(long)]
    force: bool,
}

pub fn run(config: &Config, args: &ExportArgs) -> anyhow::Result<ExitCode> {
    if args.output == Output::Table {
        return Err(crate::cli::usage(anyhow::anyhow!(
            "a table is for people; export writes jsonl, json, csv or raw"
        )));
    }
    let spec = Spec::from_filters(&args.filters, &["activity"]).map_err(crate::cli::usage)?;
    let reader = Reader::open(config, &args.store)?;
    if args.file == Path::new("-") {
        let (count, _) = write(&reader, &spec, args.output, std::io::stdout().lock())?;
        eprintln!("({count} events)");
        return Ok(ExitCode::SUCCESS);
    }
    let file = create(&args.file, args.force)?;
    let ends = |with: &str| args.file.to_string_lossy().ends_with(with);
    let done = if ends(".zst") {
        write(&reader, &spec, args.output, zstd::Encoder::new(file, 3)?)
            .and_then(|(count, out)| Ok((count, out.finish()?)))
    } else if ends(".gz") {
        let out = flate2::write::GzEncoder::new(file, flate2::Compression::default());
        write(&reader, &spec, args.output, out).and_then(|(count, out)| Ok((count, out.finish()?)))
    } else {
        write(&reader, &spec, args.output, file)
    };
    let (count, file) = done
        .with_context(|| format!("writing {} broke off; it is not whole", args.file.display()))?;
    file.sync_all()
        .with_context(|| format!("cannot write {}", args.file.display()))?;
    println!("{count} events written to {}", args.file.display());
    Ok(ExitCode::SUCCESS)
}

/// Arguments of commands are in it: only for who writes it.
fn create(path: &Path, force: bool) -> anyhow::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = File::options();
    options.write(true).mode(0o600);
    if force {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    match options.open(path) {
        Ok(file) => Ok(file),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => bail!(
            "{} is there already; name another file, or write over it with --force",
            path.display()
        ),
        Err(e) => Err(e).with_context(|| format!("cannot make {}", path.display())),
    }
}

fn write<W: Write>(
    reader: &Reader,
    spec: &Spec,
    output: Output,
    out: W,
) -> anyhow::Result<(usize, W)> {
    let mut writer = Writer::to(out, output);
    let watch = Watch::default();
    let bar = Bar::start(&watch, "exporting");
    reader.query(spec, output == Output::Raw, &watch, &mut |answer| {
        writer.write(&answer)?;
        Ok(true)
    })?;
    drop(bar);
    let count = writer.count();
    Ok((count, writer.into_inner()?))
}
