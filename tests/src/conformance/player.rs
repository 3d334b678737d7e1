//! Plays a dialogue against a master: the same steps record it and check it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};

use super::binding::Binding;
use super::dialogue::{Answer, Dialogue, Step, View};
use super::difference::{Difference, differences};
use super::exchange;
use super::normalise::{is_strange, normalise, without_strangers};
use super::settle::settle;
use super::shape::shape;
use super::stream::{EventStream, Next};

/// What comes, comes within this: a status update through an agent and an executor is the slowest.
const EVENT: Duration = Duration::from_secs(6);

/// The second heartbeat comes after 15 s.
const HEARTBEAT: Duration = Duration::from_secs(17);

/// How long an answer has to become the expected one.
const EVENTUALLY: Duration = Duration::from_secs(5);

/// In what time a state that takes a moment is reached, when nothing says what it is: while recording.
const SETTLED: Duration = Duration::from_millis(1500);

/// What playing a dialogue came to.
#[derive(Debug)]
pub struct Played {
    /// The dialogue with what was seen now.
    pub seen: Dialogue,
    /// Where that is not what was recorded; empty while recording.
    pub differences: Vec<Difference>,
    /// Why it could not be played to its end.
    pub failure: Option<String>,
}

/// Whether answers are kept or compared.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// Keep them.
    Record,
    /// Compare them.
    Check,
}

/// Plays `dialogue` and removes the frameworks it subscribed.
#[must_use]
pub fn play(dialogue: &Dialogue, url: &str, purpose: Purpose) -> Played {
    let mut stage = Stage {
        url,
        purpose,
        binding: Binding::default(),
        streams: BTreeMap::new(),
        differences: Vec::new(),
        number: 0,
    };
    let mut seen = dialogue.clone();
    let mut failure = None;
    for (index, step) in seen.steps.iter_mut().enumerate() {
        stage.number = index + 1;
        if let Err(error) = stage.step(step) {
            failure = Some(format!("step {}: {error:#}", index + 1));
            break;
        }
    }
    stage.streams.clear();
    if dialogue.reach != super::dialogue::Reach::Fresh
        && let Err(error) = settle(url, &stage.binding)
    {
        failure.get_or_insert(format!("afterwards: {error:#}"));
    }
    Played { seen, differences: stage.differences, failure }
}

struct Stage<'a> {
    url: &'a str,
    purpose: Purpose,
    binding: Binding,
    streams: BTreeMap<String, Open>,
    differences: Vec<Difference>,
    number: usize,
}

struct Open {
    stream: EventStream,
    message: Option<String>,
}

impl Stage<'_> {
    fn step(&mut self, step: &mut Step) -> Result<()> {
        match step {
            Step::Ask { request, view, part, eventually, expect } => {
                let mut ask = || exchange::ask(self.url, request, *view, part.as_deref(), &mut self.binding);
                let answer = match (*eventually, self.purpose) {
                    (false, _) => ask()?,
                    (true, Purpose::Record) => {
                        std::thread::sleep(SETTLED);
                        ask()?
                    }
                    (true, Purpose::Check) => {
                        let deadline = Instant::now() + EVENTUALLY;
                        loop {
                            let answer = ask()?;
                            if answer == *expect || Instant::now() > deadline {
                                break answer;
                            }
                            std::thread::sleep(Duration::from_millis(50));
                        }
                    }
                };
                self.keep_answer(expect, answer)
            }
            Step::Open { stream, request, expect } => {
                let (answer, opened) = exchange::open(self.url, request, &mut self.binding)?;
                let is_open = opened.is_some();
                if let Some(opened) = opened {
                    self.streams.insert(stream.clone(), Open { stream: opened, message: request.answer.clone() });
                }
                let wanted = self.purpose == Purpose::Check && expect.status == 200;
                self.keep_answer(expect, answer)?;
                if wanted && !is_open {
                    bail!("the answer is no stream: {:?}", self.differences.last().map(ToString::to_string));
                }
                Ok(())
            }
            Step::Event { stream, skip, view, expect } => {
                let event = self.event(stream, skip, EVENT)?;
                let event = if *view == View::Shape {
                    let own = without_strangers(&event, &self.binding);
                    normalise(&own, &mut self.binding);
                    shape(&own)
                } else {
                    normalise(&event, &mut self.binding)
                };
                self.keep("event", expect, event);
                Ok(())
            }
            Step::Events { stream, count, skip, expect } => {
                let mut events = Vec::new();
                for _ in 0..*count {
                    events.push(self.event(stream, skip, EVENT)?);
                }
                self.keep_sorted("events", expect, events);
                Ok(())
            }
            Step::Offers { stream, count, expect } => {
                let offers = self.offers(stream, *count)?;
                self.keep_sorted("offers", expect, offers);
                Ok(())
            }
            Step::Quiet { stream, millis, skip, expect } => {
                let events = self.quiet(stream, skip, Duration::from_millis(*millis))?;
                self.keep_sorted("events", expect, events);
                Ok(())
            }
            Step::End { stream, expect } => {
                let ended = self.ends(stream)?;
                self.keep("end", expect, ended.into());
                Ok(())
            }
            Step::Close { stream } => {
                self.streams.remove(stream).with_context(|| format!("no stream {stream} is open"))?;
                Ok(())
            }
            Step::Pause { millis } => {
                std::thread::sleep(Duration::from_millis(*millis));
                Ok(())
            }
        }
    }

    fn keep_answer(&mut self, expect: &mut Answer, got: Answer) -> Result<()> {
        if self.purpose == Purpose::Check {
            let (one, other) = (serde_json::to_value(&*expect)?, serde_json::to_value(&got)?);
            self.differences.extend(differences(self.number, "answer", &one, &other));
        }
        *expect = got;
        Ok(())
    }

    fn keep(&mut self, at: &str, expect: &mut Value, got: Value) {
        if self.purpose == Purpose::Check {
            self.differences.extend(differences(self.number, at, expect, &got));
        }
        *expect = got;
    }

    /// Sorts by what does not depend on the ids, then names them in that order.
    fn keep_sorted(&mut self, at: &str, expect: &mut Value, mut got: Vec<Value>) {
        got.sort_by_cached_key(|value| {
            // With what is known already; names that are new in one value do not depend on the others.
            normalise(value, &mut self.binding.clone()).to_string()
        });
        let got = got.iter().map(|value| normalise(value, &mut self.binding)).collect();
        self.keep(at, expect, Value::Array(got));
    }

    /// The next event that is not to be skipped, as it came.
    fn event(&mut self, label: &str, skip: &[String], patience: Duration) -> Result<Value> {
        let awaits_heartbeat = !skip.iter().any(|kind| kind == "HEARTBEAT");
        let deadline = Instant::now() + if awaits_heartbeat { HEARTBEAT.max(patience) } else { patience };
        let mut passed = Vec::new();
        loop {
            let open = self.streams.get_mut(label).with_context(|| format!("no stream {label} is open"))?;
            match open.stream.next(deadline)? {
                Next::Record(bytes) => {
                    let event = exchange::record(&bytes, open.message.as_deref())?;
                    let kind = event["type"].as_str().unwrap_or_default().to_owned();
                    if skip.contains(&kind) || self.is_of_others(&event) {
                        passed.push(kind);
                        continue;
                    }
                    return Ok(event);
                }
                Next::End => bail!("stream {label} has ended; passed over: {passed:?}"),
                Next::Nothing => bail!("stream {label}: no event came; passed over: {passed:?}"),
            }
        }
    }

    /// On an operator's stream: about frameworks of other dialogues.
    fn is_of_others(&self, event: &Value) -> bool {
        let operator = ["TASK_ADDED", "TASK_UPDATED", "FRAMEWORK_ADDED", "FRAMEWORK_UPDATED", "FRAMEWORK_REMOVED"];
        let kind = event["type"].as_str().unwrap_or_default();
        operator.contains(&kind) && self.binding.class("framework").next().is_some() && is_strange(event, &self.binding)
    }

    fn offers(&mut self, label: &str, count: usize) -> Result<Vec<Value>> {
        let skip = ["HEARTBEAT".to_owned()];
        let mut offers: Vec<Value> = Vec::new();
        while offers.len() < count {
            let event = self
                .event(label, &skip, EVENT)
                .map_err(|error| anyhow!("{} of {count} offers came: {error:#}", offers.len()))?;
            match event
                .pointer("/offers/offers")
                .or_else(|| event.pointer("/inverse_offers/inverse_offers"))
                .and_then(Value::as_array)
            {
                Some(more) => offers.extend(more.iter().cloned()),
                None => bail!("waiting for offers, {} came", event),
            }
        }
        Ok(offers)
    }

    fn quiet(&mut self, label: &str, skip: &[String], time: Duration) -> Result<Vec<Value>> {
        let deadline = Instant::now() + time;
        let mut events = Vec::new();
        loop {
            let open = self.streams.get_mut(label).with_context(|| format!("no stream {label} is open"))?;
            match open.stream.next(deadline)? {
                Next::Record(bytes) => {
                    let event = exchange::record(&bytes, open.message.as_deref())?;
                    let kind = event["type"].as_str().unwrap_or_default().to_owned();
                    if !skip.contains(&kind) && !self.is_of_others(&event) {
                        events.push(event);
                    }
                }
                Next::End => {
                    events.push(json!("the stream ended"));
                    return Ok(events);
                }
                Next::Nothing => return Ok(events),
            }
        }
    }

    fn ends(&mut self, label: &str) -> Result<bool> {
        let deadline = Instant::now() + EVENT;
        let open = self.streams.get_mut(label).with_context(|| format!("no stream {label} is open"))?;
        loop {
            match open.stream.next(deadline)? {
                Next::Record(_) => {}
                Next::End => return Ok(true),
                Next::Nothing => return Ok(false),
            }
        }
    }
}
