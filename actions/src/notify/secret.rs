//! A value that is never shown.

/// A token or an address with one. It has no `Display`, its `Debug` says nothing, and it is not serialised.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a value; blanks and line breaks around it (the end of a file) are not part of it.
    pub fn new(value: &str) -> Self {
        Self(value.trim().to_owned())
    }

    /// Is there nothing in it?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value, for the request alone.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// `text` without this value, should a service have repeated it.
    pub(crate) fn scrub(&self, text: &str) -> String {
        if self.0.len() < 4 {
            text.to_owned()
        } else {
            text.replace(&self.0, crate::redact::MARK)
        }
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn a_panic_shows_no_secret() {
        let token = "AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw0";
        // As whatever goes wrong in a channel: what it holds is printed by its `Debug`.
        let fails = |token: &str| -> Result<(), (Secret, Option<Secret>)> {
            Err((Secret::new(token), Some(Secret::new(token))))
        };
        let failed = std::panic::catch_unwind(|| fails(token).unwrap());
        let payload = failed.unwrap_err();
        let text = payload.downcast_ref::<String>().unwrap();
        assert!(
            text.contains("Secret(…)") && !text.contains(token),
            "{text}"
        );
    }

    #[test]
    fn a_secret_is_not_shown() {
        let secret = Secret::new("https://discord.com/api/webhooks/1/abcdef\n");
        assert_eq!(format!("{secret:?} {secret:#?}"), "Secret(…) Secret(…)");
        assert!(!secret.expose().ends_with('\n'));
        assert_eq!(
            secret.scrub("at https://discord.com/api/webhooks/1/abcdef?"),
            "at [redacted]?"
        );
    }
}
