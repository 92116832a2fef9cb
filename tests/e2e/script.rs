//! The set-up script as far as it changes nothing: what it refuses, what it would do. (Installing for real belongs to a machine of
//! its own; docs/asf-42-docker-syscall-monitoring has the commands.)

use std::path::Path;
use std::process::Command;

use test_support::process::{Output, run};

fn script(path: &str, args: &[&str]) -> Output {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    run(
        Command::new(root.join(path)).args(args),
        std::time::Duration::from_secs(60),
    )
}

const SCRIPT: &str = "scripts/enable-syscall-monitor.sh";
const WRAPPER: &str = "docs/asf-42-docker-syscall-monitoring/enable-syscall-monitor.sh";

#[test]
fn anything_unknown_is_refused_with_usage_and_status_2() {
    for path in [SCRIPT, WRAPPER] {
        for args in [
            &["--opneclaw"][..],
            &[],
            &["--full", "--stop"],
            &["--container"],
            &["full"],
        ] {
            let output = script(path, args);
            assert_eq!(
                output.code(),
                Some(2),
                "{path} {args:?}: {}{}",
                output.stdout,
                output.stderr
            );
            assert!(
                output.stderr.contains("usage:"),
                "{path} {args:?}: {}",
                output.stderr
            );
        }
    }
}

#[test]
fn help_names_every_option() {
    for path in [SCRIPT, WRAPPER] {
        let help = script(path, &["--help"]).expect_ok();
        for option in [
            "--openclaw",
            "--clawbot",
            "--clawdbot",
            "--moltbot",
            "--full",
            "--container",
            "--dry-run",
            "--status",
            "--stop",
            "--uninstall",
            "--purge",
            "--release-all",
            "--keep-quarantined",
            "--restart-agents",
            "--audit-at-boot",
        ] {
            assert!(help.contains(option), "{option} is not in {help}");
        }
    }
}

#[test]
fn a_dry_run_of_everything_says_what_it_would_do_and_does_nothing() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: a dry run of the set-up needs root to look at everything");
        return;
    }
    let before = Path::new("/usr/local/bin/syscall-monitor").exists();
    let output = script(SCRIPT, &["--full", "--dry-run"]);
    assert!(output.ok(), "{}{}", output.stdout, output.stderr);
    assert!(output.stdout.contains("would"), "{}", output.stdout);
    assert_eq!(Path::new("/usr/local/bin/syscall-monitor").exists(), before);
}
