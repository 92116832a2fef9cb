//! Where the events of a replay go: standard output, a store, or nowhere.

use std::io::Write;
use std::path::Path;

use anyhow::Context as _;
use collector::assemble::Assembled;
use collector::{Event, EventId, RecordType};
use enricher::{Activity, Enricher};

use super::ReplayOutput;
use crate::{entries, show};

/// So much is gathered before it is written.
const CHUNK: usize = 64 << 10;

pub struct Sink {
    enricher: Enricher,
    /// For late records: by themselves, they must not teach the process table anything that their events did not.
    late: Option<Box<Enricher>>,
    out: std::io::StdoutLock<'static>,
    /// Written when it holds a chunk, or when the log has nothing more at the moment.
    text: Vec<u8>,
    output: ReplayOutput,
    store: Option<history::Store>,
    events: u64,
}

impl Sink {
    pub fn new(output: ReplayOutput, store: Option<&Path>) -> anyhow::Result<Self> {
        let store = store
            .map(|dir| history::Store::open(dir, history::Options::default()))
            .transpose()?;
        Ok(Self {
            enricher: Enricher::offline(),
            late: None,
            out: std::io::stdout().lock(),
            text: Vec::with_capacity(CHUNK + (CHUNK >> 2)),
            output,
            store,
            events: 0,
        })
    }

    pub fn take(&mut self, assembled: Assembled) -> anyhow::Result<()> {
        match assembled {
            Assembled::Event(event) => self.event(event),
            Assembled::Amendment { id, kind, body } => self.amend(id, kind, &body),
        }
    }

    fn event(&mut self, event: Event) -> anyhow::Result<()> {
        self.events += 1;
        if self.output == ReplayOutput::None && self.store.is_none() {
            return Ok(());
        }
        let activity = self.enricher.enrich(event);
        self.write(&activity, false)?;
        if let Some(store) = &self.store {
            // A log does not hurry: when the writer's queue is full, wait for it.
            let entry = entries::activity(&activity, &[]);
            if let Err(dropped) = store.append(entry.clone()) {
                if !matches!(dropped.why, history::Why::Full) {
                    return Err(dropped.into());
                }
                store.flush()?;
                store.append(entry)?;
            }
        }
        Ok(())
    }

    /// A record of an event that was given out: one more object with the same id, and added to what the store has.
    fn amend(&mut self, id: EventId, kind: RecordType, body: &[u8]) -> anyhow::Result<()> {
        if let Some(store) = &self.store {
            let text = id.to_string();
            store.flush()?;
            let row = store
                .get_near(history::Kind::Activity, &text, Some(id.millis))?
                .with_context(|| format!("event {text} is not in the store that it was written to; `history verify --store` finds out what else is missing"))?;
            let mut activity = Activity::decode(&row.body)?;
            activity.event.push(kind, body);
            let mut bytes = Vec::new();
            activity.encode(&mut bytes);
            store
                .amend(history::Kind::Activity, &text, id.millis, bytes)?
                .wait()?;
        }
        if self.output == ReplayOutput::None {
            return Ok(());
        }
        let mut event = Event::new(id);
        event.push(kind, body);
        let late = self
            .late
            .get_or_insert_with(|| Box::new(Enricher::offline()));
        let activity = late.enrich(event);
        self.write(&activity, true)
    }

    fn write(&mut self, activity: &Activity, amends: bool) -> anyhow::Result<()> {
        match self.output {
            ReplayOutput::Jsonl => {
                activity.write_json(&mut self.text);
                if amends && self.text.pop() == Some(b'}') {
                    self.text.extend_from_slice(b",\"amends\":true}");
                }
                self.text.push(b'\n');
            }
            ReplayOutput::Text => {
                let json = activity.to_json();
                let arguments = show::arguments(&json);
                let line = format!(
                    "{} {:<14} {:>7} {:<16} {}{}{}",
                    json["time"].as_str().unwrap_or_default(),
                    show::container_name(&json),
                    activity.process.pid,
                    show::call(&json),
                    show::what(&json),
                    if arguments.is_empty() {
                        String::new()
                    } else {
                        format!(" ({arguments})")
                    },
                    if amends { " (late record)" } else { "" }
                );
                self.text
                    .extend_from_slice(crate::output::visible(&line).as_bytes());
                self.text.push(b'\n');
            }
            ReplayOutput::None => {}
        }
        if self.text.len() >= CHUNK {
            self.put()?;
        }
        Ok(())
    }

    fn put(&mut self) -> std::io::Result<()> {
        // Past the line buffer of standard output, which would look for line breaks.
        self.out.write_all(&self.text)?;
        self.text.clear();
        Ok(())
    }

    /// Lets the reader of the output see everything so far.
    pub fn flush(&mut self) -> std::io::Result<()> {
        self.put()?;
        self.out.flush()
    }

    /// Ends the output and the store; gives how many events there were.
    pub fn finish(mut self) -> anyhow::Result<u64> {
        self.flush()?;
        if let Some(store) = self.store.take() {
            store.close()?;
        }
        Ok(self.events)
    }
}
