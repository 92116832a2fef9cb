//! Which exec session is the container's health check?
//!
//! To the kernel a health check and `docker exec` are the same: the shim asks the runtime to start a program inside. Docker tells
//! what the check's command is; a session whose first program has these arguments is one. Nothing inside of a container can start
//! a session, so at most somebody on the host who executes the same command is taken for a check.

use crate::container::Engine;

/// What an engine executes for a check that is written like `Healthcheck.Test` of Docker's API; `shell` is the image's `SHELL`.
pub fn command(test: &[String], shell: &[String], engine: Engine) -> Vec<String> {
    match test {
        [kind, command @ ..] if kind == "CMD" => command.to_vec(),
        [kind, command @ ..] if kind == "CMD-SHELL" && !command.is_empty() => {
            let default = match engine {
                Engine::Podman => "sh",
                _ => "/bin/sh",
            };
            let shell = match shell {
                [] => vec![default.to_owned(), "-c".to_owned()],
                shell => shell.to_vec(),
            };
            shell.into_iter().chain(command.iter().cloned()).collect()
        }
        // NONE, nothing, or a word of a later version.
        _ => Vec::new(),
    }
}

/// Are these the arguments of the check's first program? The kernel puts the interpreter of a script before them, and the script's
/// path in the place of its name.
pub fn is_check(command: &[String], argv: &[String]) -> bool {
    let [program, arguments @ ..] = command else {
        return false;
    };
    let Some(before) = argv.len().checked_sub(command.len()) else {
        return false;
    };
    if before == 0 {
        return argv == command;
    }
    // The interpreter, and the one argument that a script can give it.
    before <= 2
        && argv.ends_with(arguments)
        && argv
            .get(before)
            .is_some_and(|script| script.rsplit('/').next() == program.rsplit('/').next())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One word a line.
    fn words(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn commands_are_what_the_engine_executes() {
        let docker = Engine::Docker;
        let bash = "/bin/bash\n-o\npipefail\n-c";
        for (test, shell, engine, wanted) in [
            (
                "CMD\ncurl\n-f\nlocalhost",
                "",
                docker,
                "curl\n-f\nlocalhost",
            ),
            (
                "CMD-SHELL\na || exit 1",
                "",
                docker,
                "/bin/sh\n-c\na || exit 1",
            ),
            (
                "CMD-SHELL\nexit 0",
                bash,
                docker,
                "/bin/bash\n-o\npipefail\n-c\nexit 0",
            ),
            ("CMD-SHELL\nexit 0", "", Engine::Podman, "sh\n-c\nexit 0"),
            ("NONE", "", docker, ""),
            ("", "", docker, ""),
            ("CMD-SHELL", "", docker, ""),
        ] {
            assert_eq!(
                command(&words(test), &words(shell), engine),
                words(wanted),
                "{test}"
            );
        }
    }

    #[test]
    fn only_the_whole_command_is_a_check() {
        let check = words("/bin/sh\n-c\nexit 0");
        assert!(is_check(&check, &words("/bin/sh\n-c\nexit 0")));
        for other in [
            "/bin/sh\n-c\nexit 1",
            "/bin/sh",
            "-c\nexit 0",
            "/bin/sh\n-c\nexit 0\nmore",
            "",
            "/bin/evil\n/bin/other\n-c\nexit 0",
        ] {
            assert!(!is_check(&check, &words(other)), "{other}");
        }
        assert!(!is_check(&[], &[]), "no check is known");
        assert!(!is_check(&[], &words("sh")));
    }

    #[test]
    fn a_script_is_known_behind_its_interpreter() {
        let check = words("check.sh\n--fast");
        for (argv, wanted) in [
            ("/bin/sh\n/usr/local/bin/check.sh\n--fast", true),
            ("/usr/bin/env\nbash\n/usr/local/bin/check.sh\n--fast", true),
            ("/bin/sh\n/tmp/other.sh\n--fast", false),
            ("/bin/sh\n-x\n-y\n/usr/local/bin/check.sh\n--fast", false),
        ] {
            assert_eq!(is_check(&check, &words(argv)), wanted, "{argv}");
        }
    }
}
