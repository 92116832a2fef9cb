//! Buttons below a message, and what a press of one may do: Release, Keep, Except, Evidence. Sensor side; the polling is the
//! courier's.
//!
//! Nothing that Telegram says is believed for itself. A press does something only when its sender stands in root's
//! configuration, it comes from the configured chat, it carries the nonce that was made for this alert, the buttons are not
//! too old, and it was not handled before. Each press, refused ones too, is the caller's to keep in the history.
//!
//! A press is marked as handled after it was acted on, and what it does can be done twice: a kill in between repeats it,
//! and changes nothing.

use std::collections::{BTreeMap, VecDeque};
use std::io::Read;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ledger::{Ledger, LedgerError};

/// Area of the ledger.
pub const AREA: &str = "phone";
/// Key of the presses that were handled; an alert's begin with `A-`.
const HANDLED: &str = "handled";
/// Presses that are remembered. Telegram sends again what was not confirmed, not what is hundreds of presses old.
const REMEMBERED: usize = 512;

/// What a button does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// Bring the container back.
    Release,
    /// It stays frozen.
    Keep,
    /// This case is no alert any more.
    Except,
    /// Say where the evidence is.
    Evidence,
}

impl Verb {
    /// All of them, in the order of the buttons.
    pub const ALL: [Self; 4] = [Self::Release, Self::Keep, Self::Except, Self::Evidence];

    /// Text on the button.
    pub fn label(self) -> &'static str {
        match self {
            Self::Release => "Release",
            Self::Keep => "Keep",
            Self::Except => "Except",
            Self::Evidence => "Evidence",
        }
    }

    fn letter(self) -> &'static str {
        match self {
            Self::Release => "r",
            Self::Keep => "k",
            Self::Except => "x",
            Self::Evidence => "e",
        }
    }
}

/// Buttons of one message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Buttons {
    /// `A-42`.
    pub alert: String,
    /// Made for this alert.
    pub nonce: String,
    /// Which.
    pub verbs: Vec<Verb>,
}

impl Buttons {
    /// What a press sends back: at most 64 bytes (Bot API, `InlineKeyboardButton.callback_data`).
    pub fn data(&self, verb: Verb) -> String {
        format!("{}:{}:{}", verb.letter(), self.alert, self.nonce)
    }
}

/// A press, as Telegram tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Press {
    /// Number of the update.
    pub update_id: i64,
    /// To answer it.
    pub callback_id: String,
    /// Who; Telegram's number of the account.
    pub user: i64,
    /// What the account calls itself: anybody may call himself anything.
    pub name: String,
    /// Chat of the message below which the button is.
    pub chat: Option<i64>,
    /// What the button carried.
    pub data: String,
}

/// Settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Accounts that may press; empty: no buttons at all.
    pub users: Vec<i64>,
    /// The chat; `None` (a `@channel`, whose number is not known) takes any.
    pub chat: Option<i64>,
    /// How long buttons work, milliseconds.
    pub lifetime_ms: u64,
}

/// What is kept of the buttons of an alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    /// Nonce.
    pub nonce: String,
    /// When, milliseconds since the epoch.
    pub at_ms: u64,
    /// Until when they work.
    pub until_ms: u64,
    /// Container of the alert.
    pub container_id: String,
    /// Its name.
    pub container: String,
}

/// What a press may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judged {
    /// This.
    Allowed {
        /// Button.
        verb: Verb,
        /// Alert.
        alert: String,
        /// What is known of the buttons.
        issued: Issued,
    },
    /// Nothing, and why.
    Refused(&'static str),
    /// It was handled already, with this answer.
    Again(String),
}

/// All buttons.
pub struct Phone {
    ledger: Arc<dyn Ledger>,
    settings: Settings,
    handled: VecDeque<(i64, String)>,
}

impl std::fmt::Debug for Phone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Phone")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Phone {
    /// Reads what an earlier run handled, and forgets buttons that are long too old.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn open(
        ledger: Arc<dyn Ledger>,
        settings: Settings,
        now_ms: u64,
    ) -> Result<Self, LedgerError> {
        for (key, value) in ledger.scan(AREA)? {
            let until = serde_json::from_slice::<Issued>(&value).map(|i| i.until_ms);
            // A week longer than they work: whoever presses is told that they are too old.
            if key != HANDLED && until.is_ok_and(|u| u + 7 * 86_400_000 < now_ms) {
                ledger.delete(AREA, &key)?;
            }
        }
        let handled = ledger
            .get(AREA, HANDLED)?
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        Ok(Self {
            ledger,
            settings,
            handled,
        })
    }

    /// Is anybody allowed to press?
    pub fn is_on(&self) -> bool {
        !self.settings.users.is_empty()
    }

    /// Buttons for a message about an alert in a container: durable when it returns. `None` when nobody may press.
    ///
    /// # Errors
    /// [`LedgerError`], also when the system gives no random numbers.
    pub fn issue(
        &self,
        alert: &str,
        container: (&str, &str),
        frozen: bool,
        now_ms: u64,
    ) -> Result<Option<Buttons>, LedgerError> {
        if !self.is_on() {
            return Ok(None);
        }
        let (id, name) = container;
        let issued = Issued {
            nonce: nonce().map_err(|e| failed("make a nonce for", alert, &e))?,
            at_ms: now_ms,
            until_ms: now_ms.saturating_add(self.settings.lifetime_ms),
            container_id: id.to_owned(),
            container: name.to_owned(),
        };
        let value = serde_json::to_vec(&issued)
            .map_err(|e| failed("write down the buttons of", alert, &e))?;
        self.ledger.put(AREA, alert, &value)?;
        Ok(Some(of(alert, issued, frozen)))
    }

    /// The buttons that were made for an alert, for a message that is edited.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn buttons_of(&self, alert: &str, frozen: bool) -> Result<Option<Buttons>, LedgerError> {
        let found = self.ledger.get(AREA, alert)?.filter(|_| self.is_on());
        let issued: Option<Issued> = found.and_then(|v| serde_json::from_slice(&v).ok());
        Ok(issued.map(|issued| of(alert, issued, frozen)))
    }

    /// What this press may do now.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn judge(&self, press: &Press, now_ms: u64) -> Result<Judged, LedgerError> {
        if let Some((_, said)) = self.handled.iter().find(|(id, _)| *id == press.update_id) {
            return Ok(Judged::Again(said.clone()));
        }
        if !self.settings.users.contains(&press.user) {
            return Ok(Judged::Refused(
                "this account is not allowed to answer (notify.telegram.answer_from)",
            ));
        }
        if self.settings.chat.is_some() && press.chat != self.settings.chat {
            return Ok(Judged::Refused("it comes from another chat"));
        }
        let mut parts = press.data.splitn(3, ':');
        let (letter, alert, nonce) = (parts.next(), parts.next(), parts.next());
        let verb = Verb::ALL.into_iter().find(|v| Some(v.letter()) == letter);
        let (Some(verb), Some(alert), Some(nonce)) = (verb, alert, nonce) else {
            return Ok(Judged::Refused("it is no button of this monitor"));
        };
        let number = alert.strip_prefix("A-").map(str::parse::<u64>);
        if !matches!(number, Some(Ok(_))) {
            return Ok(Judged::Refused("it is no button of this monitor"));
        }
        let found = self.ledger.get(AREA, alert)?;
        let issued: Option<Issued> = found.and_then(|v| serde_json::from_slice(&v).ok());
        let Some(issued) = issued else {
            return Ok(Judged::Refused(
                "no buttons of this alert are known (any more)",
            ));
        };
        if !same(issued.nonce.as_bytes(), nonce.as_bytes()) {
            return Ok(Judged::Refused("its nonce is not the one of this alert"));
        }
        if now_ms > issued.until_ms {
            return Ok(Judged::Refused(
                "the buttons are too old; use the command line",
            ));
        }
        Ok(Judged::Allowed {
            verb,
            alert: alert.to_owned(),
            issued,
        })
    }

    /// It was acted on, or refused, with this answer: durable when it returns.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn handled(&mut self, press: &Press, said: &str) -> Result<(), LedgerError> {
        let mut handled = self.handled.clone();
        handled.push_back((press.update_id, said.to_owned()));
        while handled.len() > REMEMBERED {
            handled.pop_front();
        }
        let value = serde_json::to_vec(&handled)
            .map_err(|e| failed("write down a press in", HANDLED, &e))?;
        self.ledger.put(AREA, HANDLED, &value)?;
        self.handled = handled;
        Ok(())
    }

    /// Buttons that are kept, by alert.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn issued(&self) -> Result<BTreeMap<String, Issued>, LedgerError> {
        let all = self.ledger.scan(AREA)?;
        Ok(all
            .into_iter()
            .filter_map(|(key, value)| Some((key, serde_json::from_slice(&value).ok()?)))
            .collect())
    }
}

fn of(alert: &str, issued: Issued, frozen: bool) -> Buttons {
    let verbs = Verb::ALL
        .into_iter()
        .filter(|v| frozen || *v == Verb::Except)
        .collect();
    Buttons {
        alert: alert.to_owned(),
        nonce: issued.nonce,
        verbs,
    }
}

fn failed(tried: &'static str, on: &str, why: &dyn std::fmt::Display) -> LedgerError {
    LedgerError {
        tried,
        on: on.to_owned(),
        why: why.to_string(),
    }
}

/// 96 random bits in hexadecimal digits.
fn nonce() -> std::io::Result<String> {
    let mut bytes = [0u8; 12];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

/// Compares in a time that does not tell how much of it is right.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |d, (x, y)| d | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::memory::Memory;

    const ME: i64 = 4711;
    const CHAT: i64 = -100;

    fn phone(memory: &Memory) -> Phone {
        let settings = Settings {
            users: vec![ME],
            chat: Some(CHAT),
            lifetime_ms: 1000,
        };
        Phone::open(Arc::new(memory.clone()), settings, 0).unwrap()
    }

    fn buttons(phone: &Phone) -> Buttons {
        phone
            .issue("A-7", ("abc", "gateway"), true, 0)
            .unwrap()
            .unwrap()
    }

    fn press(data: String) -> Press {
        Press {
            update_id: 1,
            user: ME,
            chat: Some(CHAT),
            data,
            ..Press::default()
        }
    }

    fn verdict(phone: &Phone, press: &Press, now: u64) -> String {
        match phone.judge(press, now).unwrap() {
            Judged::Allowed { verb, alert, .. } => format!("{} {alert}", verb.label()),
            Judged::Refused(why) => why.split(' ').take(3).collect::<Vec<_>>().join(" "),
            Judged::Again(said) => format!("again {said}"),
        }
    }

    #[test]
    fn each_button_does_its_own_and_fits_into_telegram_s_64_bytes() {
        let memory = Memory::default();
        let phone = phone(&memory);
        let all = buttons(&phone);
        for verb in Verb::ALL {
            let p = press(all.data(verb));
            assert_eq!(verdict(&phone, &p, 0), format!("{} A-7", verb.label()));
        }
        let long = Buttons {
            alert: format!("A-{}", u64::MAX),
            ..all
        };
        assert!(long.data(Verb::Release).len() <= 64);
    }

    #[test]
    fn who_is_not_allowed_or_elsewhere_or_late_or_guesses_gets_nothing() {
        let memory = Memory::default();
        let phone = phone(&memory);
        let all = buttons(&phone);
        let good = press(all.data(Verb::Release));
        let with = |change: &dyn Fn(&mut Press)| {
            let mut p = good.clone();
            change(&mut p);
            p
        };
        for (p, now, why) in [
            (with(&|p| p.user = 1), 0, "this account is"),
            (with(&|p| p.chat = Some(1)), 0, "it comes from"),
            (with(&|p| p.chat = None), 0, "it comes from"),
            (good.clone(), 1001, "the buttons are"),
            (
                with(&|p| p.data = format!("r:A-7:{}", "0".repeat(24))),
                0,
                "its nonce is",
            ),
            (with(&|p| p.data = "r:A-7:".into()), 0, "its nonce is"),
            (
                with(&|p| p.data = format!("r:A-8:{}", all.nonce)),
                0,
                "no buttons of",
            ),
            (
                with(&|p| p.data = format!("q:A-7:{}", all.nonce)),
                0,
                "it is no",
            ),
            (
                with(&|p| p.data = format!("r:handled:{}", all.nonce)),
                0,
                "it is no",
            ),
            (with(&|p| p.data = String::new()), 0, "it is no"),
        ] {
            assert_eq!(verdict(&phone, &p, now), why, "{p:?}");
        }
        assert_eq!(verdict(&phone, &good, 1000), "Release A-7");
    }

    #[test]
    fn a_press_is_handled_once_also_over_a_restart() {
        let memory = Memory::default();
        let mut first = phone(&memory);
        let p = press(buttons(&first).data(Verb::Release));
        first.handled(&p, "done").unwrap();
        let second = phone(&memory);
        assert_eq!(verdict(&second, &p, 0), "again done");
        let next = Press { update_id: 2, ..p };
        assert_eq!(verdict(&second, &next, 0), "Release A-7");
    }

    #[test]
    fn without_allowed_accounts_there_are_no_buttons() {
        let phone = Phone::open(Arc::new(Memory::default()), Settings::default(), 0).unwrap();
        assert_eq!(phone.issue("A-1", ("", ""), true, 0).unwrap(), None);
        let p = press("r:A-1:".into());
        assert_eq!(verdict(&phone, &p, 0), "this account is");
    }

    #[test]
    fn what_is_not_frozen_cannot_be_released() {
        let memory = Memory::default();
        let phone = phone(&memory);
        let all = phone.issue("A-1", ("", ""), false, 0).unwrap().unwrap();
        assert_eq!(all.verbs, [Verb::Except]);
    }

    #[test]
    fn old_buttons_are_forgotten_at_a_start() {
        let memory = Memory::default();
        buttons(&phone(&memory));
        let settings = Settings::default();
        let later = Phone::open(Arc::new(memory.clone()), settings, 8 * 86_400_000).unwrap();
        assert!(later.issued().unwrap().is_empty());
    }
}
