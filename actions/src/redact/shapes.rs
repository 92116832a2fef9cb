//! Secrets that are known by their form.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::MARK;

/// Each pattern may name a group `keep` (written before the mark) and a group `after` (written behind it). A word must
/// not begin in the middle of another, or `risk-ant…` would be a key.
const SHAPES: &[&str] = &[
    // Private keys, also when the end is missing or the line breaks were made visible.
    r"(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\z)",
    r"\bAGE-SECRET-KEY-1[0-9A-Z]{20,}",
    // Who is who in a URL; user alone is no secret, but a token can stand there (https://TOKEN@host).
    r"(?P<keep>\b[A-Za-z][A-Za-z0-9+.-]*://)[^\s/?#@'\x22<>]+(?P<after>@)",
    // Webhooks: whoever has the address can write.
    r"(?P<keep>/api/(?:v\d+/)?webhooks/\d+/)[A-Za-z0-9_-]+",
    r"(?P<keep>hooks\.slack(?:-gov)?\.com/(?:services|workflows|triggers)/)[A-Za-z0-9_/+-]+",
    r"(?P<keep>webhook\.office\.com/)[A-Za-z0-9@_/-]+",
    // Telegram, also in the path of its API.
    r"(?P<keep>\b(?:bot)?)\d{6,12}:[A-Za-z0-9_-]{30,}",
    // Discord's bot tokens.
    r"\b[A-Za-z0-9_-]{23,28}\.[A-Za-z0-9_-]{6,7}\.[A-Za-z0-9_-]{27,}",
    // JSON web tokens.
    r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?",
    // Amazon.
    r"\b(?:AKIA|ASIA|ABIA|ACCA|AROA|AIDA)[A-Z0-9]{16}\b",
    // GitHub, GitLab.
    r"\bgh[pousr]_[A-Za-z0-9]{20,}",
    r"\bgithub_pat_[A-Za-z0-9_]{20,}",
    r"\bgl(?:pat|dt|rt|cbt|ptt|ft|soat|oas|agent|imt|ffct)-[A-Za-z0-9_.-]{16,}",
    // Models: OpenAI, Anthropic, Groq, xAI, Perplexity, Tavily, Hugging Face, Replicate, OpenRouter, Fireworks, Cerebras, NVIDIA.
    r"\bsk-[A-Za-z0-9_-]{16,}",
    r"\b(?:gsk_|xai-|pplx-|tvly-|hf_|r8_|fw_|csk-|nvapi-)[A-Za-z0-9_-]{16,}",
    // Slack.
    r"\bxox[abcdeoprs]-[A-Za-z0-9-]{8,}",
    r"\bxapp-\d-[A-Za-z0-9-]{10,}",
    // Google.
    r"\bAIza[A-Za-z0-9_-]{30,}",
    r"\bya29\.[A-Za-z0-9_-]{20,}",
    r"\bGOCSPX-[A-Za-z0-9_-]{20,}",
    // Stripe, SendGrid, Twilio, npm, PyPI, DigitalOcean, Docker, Shopify, Linear, Notion, Vault, Doppler, Databricks, Tailscale, Sentry, Mailgun, Telegram-like others.
    r"\b(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{16,}",
    r"\bwhsec_[A-Za-z0-9+/=]{16,}",
    r"\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}",
    r"\bSK[0-9a-f]{32}\b",
    r"\bnpm_[A-Za-z0-9]{30,}",
    r"\bpypi-[A-Za-z0-9_-]{30,}",
    r"\bdo[opr]_v1_[0-9a-f]{40,}",
    r"\bdckr_(?:pat|oat)_[A-Za-z0-9_-]{20,}",
    r"\bshp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}",
    r"\blin_(?:api|oauth)_[A-Za-z0-9]{20,}",
    r"\b(?:secret_|ntn_)[A-Za-z0-9]{40,}",
    r"\bhv[sbr]\.[A-Za-z0-9_-]{20,}",
    r"\bdp\.(?:pt|st|ct|sa|scim|audit)\.[A-Za-z0-9._-]{20,}",
    r"\bdapi[0-9a-f]{32}",
    r"\btskey-[a-z]+-[A-Za-z0-9-]{10,}",
    r"\bsntry[su]_[A-Za-z0-9+/=_-]{20,}",
    r"\bkey-[0-9a-f]{32}\b",
    // Headers.
    r"(?i)(?P<keep>\b(?:proxy-)?authorization\s*[:=]\s*[\x22']?(?:(?:bearer|basic|token|digest|negotiate|apikey|aws4-hmac-sha256)\s+)?)[^\s'\x22,;][^'\x22\r\n]*",
    r"(?i)(?P<keep>\b(?:bearer|basic)\s+)[A-Za-z0-9_.~+/=-]{12,}",
    r"(?i)(?P<keep>\b(?:set-)?cookie\s*:\s*)[^'\x22\r\n]+",
];

/// The patterns with ASCII word boundaries: with Unicode ones the automaton gives up at the first letter that is not ASCII,
/// and what takes its place is slow, on text that an attacker chose.
fn patterns() -> impl Iterator<Item = String> {
    SHAPES.iter().map(|s| s.replace(r"\b", r"(?-u:\b)"))
}

/// One look tells whether any of them is there: an ordinary command line pays for one pass, not for all.
static ANY: LazyLock<Option<regex::RegexSet>> =
    LazyLock::new(|| regex::RegexSet::new(patterns()).ok());
static EACH: LazyLock<Vec<Option<Regex>>> =
    LazyLock::new(|| patterns().map(|s| Regex::new(&s).ok()).collect());

pub(super) fn redact(text: &str) -> Cow<'_, str> {
    let Some(any) = &*ANY else {
        return Cow::Borrowed(text);
    };
    let mut out = Cow::Borrowed(text);
    for hit in any.matches(text) {
        let Some(Some(shape)) = EACH.get(hit) else {
            continue;
        };
        let replaced = shape.replace_all(&out, |c: &Captures<'_>| {
            let part = |name| c.name(name).map_or("", |m| m.as_str());
            // Taken out already by a pattern before this one.
            if c[0].contains(MARK) && c[0].trim_end().ends_with(MARK) {
                return c[0].to_owned();
            }
            format!("{}{MARK}{}", part("keep"), part("after"))
        });
        if let Cow::Owned(changed) = replaced {
            out = Cow::Owned(changed);
        }
    }
    out
}

#[cfg(test)]
pub(super) fn all_compile() -> bool {
    ANY.is_some() && EACH.iter().all(Option::is_some)
}
