use std::collections::{BTreeSet, HashSet};

use proptest::prelude::*;

use super::*;

const SETTINGS: Settings = Settings {
    settle: Duration::seconds(30),
};

fn at(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds).unwrap()
}

/// A rotation that is driven by hand, with a clock.
struct Driven {
    state: State,
    now: i64,
    actions: Vec<Action>,
}

impl Driven {
    fn new() -> Self {
        Self {
            state: State::new("A".into(), at(1000)),
            now: 1000,
            actions: Vec::new(),
        }
    }

    fn try_step(&mut self, event: &Event) -> Result<(), Refused> {
        let (state, actions) = step(&self.state, event, SETTINGS, at(self.now))?;
        (self.state, self.actions) = (state, actions);
        Ok(())
    }

    #[track_caller]
    fn step(&mut self, event: Event) -> &mut Self {
        self.try_step(&event).unwrap();
        self
    }

    /// The same evidence until it has settled.
    #[track_caller]
    fn settled(&mut self, event: Event) -> &mut Self {
        self.step(event.clone());
        self.now += 30;
        self.step(event)
    }

    fn shape(&self) -> String {
        let trusted: Vec<&str> = self.state.trusted.iter().map(String::as_str).collect();
        format!(
            "{}{}{} [{}] signs {}",
            self.state.phase.as_str(),
            if self.state.paused { " paused" } else { "" },
            if self.state.aborting { " aborting" } else { "" },
            trusted.join(","),
            self.state.signing
        )
    }
}

fn answers(acknowledged: u64, total: u64) -> Event {
    Event::Acknowledged {
        wanted: "d".into(),
        answers: Acknowledgements {
            digest: "d".into(),
            pilots: 1,
            acknowledged,
            total,
            pending: (acknowledged..total).map(|n| format!("p{n}")).collect(),
            silent: Vec::new(),
        },
    }
}

fn leaves(root: &str, count: u64) -> Event {
    Event::Leaves {
        root: root.into(),
        count,
        holders: Vec::new(),
    }
}

#[test]
fn a_rotation_from_start_to_end() {
    let mut r = Driven::new();
    r.step(Event::Start("B".into()));
    assert_eq!(r.shape(), "distribute [A,B] signs A");
    r.settled(answers(3, 3));
    assert_eq!(r.shape(), "drain [A,B] signs B");
    assert_eq!(r.actions[..2], [Action::Sign("B".into()), Action::Announce]);
    r.settled(leaves("A", 0));
    assert_eq!(r.shape(), "retire [B] signs B");
    r.settled(answers(3, 3));
    assert_eq!(r.shape(), "idle [B] signs B");
    assert_eq!(r.actions[0], Action::Destroy("A".into()));
    r.step(Event::Start("C".into()));
    assert_eq!(r.shape(), "distribute [B,C] signs B");
}

#[test]
fn who_has_not_acknowledged_is_named_and_keeps_the_gate_shut() {
    let mut r = Driven::new();
    r.step(Event::Start("B".into())).settled(answers(2, 3));
    assert_eq!(r.shape(), "distribute [A,B] signs A");
    assert_eq!(r.state.seen.pending, ["p2"]);
    assert_eq!(
        r.state.blocked(),
        "1 of 3 proxies have not acknowledged the bundle"
    );
    // A Pilot that is silent may hold proxies that nobody else knows of.
    let mut silent = answers(3, 3);
    if let Event::Acknowledged { answers, .. } = &mut silent {
        answers.silent = vec!["pilot-b".into()];
    }
    r.settled(silent);
    assert_eq!(r.shape(), "distribute [A,B] signs A");
    assert_eq!(r.state.blocked(), "1 Pilots do not answer: pilot-b");
    // No Pilot at all is no evidence, nor is an answer about another bundle.
    r.settled(Event::Acknowledged {
        wanted: "d".into(),
        answers: Acknowledgements {
            digest: "d".into(),
            ..Acknowledgements::default()
        },
    });
    assert!(r.state.blocked().starts_with("no Pilot"));
    let Event::Acknowledged { answers: old, .. } = answers(3, 3) else {
        unreachable!()
    };
    r.settled(Event::Acknowledged {
        wanted: "other".into(),
        answers: old,
    });
    assert_eq!(r.shape(), "distribute [A,B] signs A");
    r.settled(Event::Unknown("the bus is away".into()));
    assert_eq!(r.state.blocked(), "the bus is away");
    r.settled(answers(3, 3));
    assert_eq!(r.shape(), "drain [A,B] signs B");
}

#[test]
fn evidence_must_last() {
    let mut r = Driven::new();
    r.step(Event::Start("B".into())).step(answers(3, 3));
    r.now += 29;
    r.step(answers(3, 3)).step(answers(3, 4));
    r.now += 1;
    r.step(answers(4, 4));
    assert_eq!(r.state.phase, Phase::Distribute, "it was interrupted");
    r.now -= 3600;
    r.step(answers(4, 4));
    r.now += 30;
    r.step(answers(4, 4));
    assert_eq!(
        r.state.phase,
        Phase::Drain,
        "a clock set back only costs time"
    );
}

#[test]
fn paused_it_stays_where_it_is() {
    let mut r = Driven::new();
    r.step(Event::Start("B".into())).step(Event::Pause);
    assert_eq!(
        r.try_step(&Event::Pause),
        Err(Refused::Already("paused already"))
    );
    assert_eq!(
        r.try_step(&Event::Force("now".into())),
        Err(Refused::Paused)
    );
    r.settled(answers(3, 3));
    assert_eq!(r.shape(), "distribute paused [A,B] signs A");
    r.step(Event::Resume);
    assert_eq!(
        r.try_step(&Event::Resume),
        Err(Refused::Already("not paused"))
    );
    r.settled(answers(3, 3));
    assert_eq!(r.shape(), "drain [A,B] signs B");
}

#[test]
fn an_abort_undoes_what_can_be_undone() {
    let mut r = Driven::new();
    r.step(Event::Start("B".into())).step(Event::Abort);
    assert_eq!(r.shape(), "idle [A] signs A");
    assert!(r.actions.contains(&Action::Destroy("B".into())));

    r.step(Event::Start("B".into()))
        .settled(answers(1, 1))
        .step(Event::Abort);
    assert_eq!(r.shape(), "drain aborting [A,B] signs A");
    assert!(matches!(
        r.try_step(&Event::Abort),
        Err(Refused::TooLate(_))
    ));
    r.settled(leaves("A", 0));
    assert_eq!(r.state.phase, Phase::Drain, "it is B that must drain");
    r.settled(leaves("B", 0)).settled(answers(1, 1));
    assert_eq!(r.shape(), "idle [A] signs A");

    r.step(Event::Start("B".into()))
        .settled(answers(1, 1))
        .settled(leaves("A", 0))
        .step(Event::Abort);
    assert_eq!(r.shape(), "drain paused [A,B] signs B");
    r.step(Event::Resume);
    assert!(matches!(
        r.try_step(&Event::Abort),
        Err(Refused::TooLate(_))
    ));
    r.settled(leaves("A", 0)).settled(answers(1, 1));
    assert_eq!(r.shape(), "idle [B] signs B");
}

#[test]
fn force_wants_a_reason_and_is_journaled() {
    let mut r = Driven::new();
    let force = |why: &str| Event::Force(why.into());
    assert_eq!(r.try_step(&force("x")), Err(Refused::NoRotation));
    r.step(Event::Start("B".into()));
    assert_eq!(r.try_step(&force("  ")), Err(Refused::NoReason));
    r.step(force("rack 7 is gone"));
    assert_eq!(r.shape(), "drain [A,B] signs B");
    assert_eq!(
        r.actions[0],
        Action::Journal {
            forced: true,
            detail: "forced past distribute: rack 7 is gone".into()
        }
    );
}

#[test]
fn a_reissued_root_takes_the_place_of_the_one_before() {
    let mut r = Driven::new();
    r.step(Event::Reissued("A".into(), "A2".into()));
    assert_eq!(r.shape(), "idle [A2] signs A2");
    r.step(Event::Start("B".into()));
    let again = Event::Reissued("A2".into(), "A3".into());
    assert_eq!(r.try_step(&again), Err(Refused::UnderWay));
}

#[test]
fn a_second_start_is_refused() {
    let mut r = Driven::new();
    assert_eq!(
        r.try_step(&Event::Start("A".into())),
        Err(Refused::SameRoot)
    );
    r.step(Event::Start("B".into()));
    assert_eq!(
        r.try_step(&Event::Start("C".into())),
        Err(Refused::UnderWay)
    );
    for event in [Event::Pause, Event::Resume, Event::Abort] {
        assert_eq!(Driven::new().try_step(&event), Err(Refused::NoRotation));
    }
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => Just(Event::Start(String::new())),
        1 => Just(Event::Pause),
        2 => Just(Event::Resume),
        1 => Just(Event::Abort),
        1 => prop_oneof![Just(String::new()), Just("why".to_owned())].prop_map(Event::Force),
        6 => Just(answers(3, 3)),
        2 => (0u64..4, 0u64..4, any::<bool>(), any::<bool>(), 0u64..2).prop_map(
            |(acknowledged, total, current, silent, pilots)| Event::Acknowledged {
                wanted: "d".into(),
                answers: Acknowledgements {
                    digest: if current { "d" } else { "old" }.into(),
                    pilots,
                    acknowledged,
                    total,
                    pending: (acknowledged..total).map(|n| n.to_string()).collect(),
                    silent: if silent { vec!["x".into()] } else { Vec::new() },
                },
            }
        ),
        // The root is put in later: mostly the one that drains.
        6 => Just(leaves("old", 0)),
        2 => (prop_oneof![Just("old"), Just("new")], 0u64..3).prop_map(|(root, n)| leaves(root, n)),
        1 => Just(Event::Unknown("away".into())),
        1 => Just(Event::Reissued(String::new(), String::new())),
    ]
}

/// Events are made before it is known which roots there are.
fn concrete(event: Event, state: &State, made: &mut u32) -> Event {
    let mut fresh = || {
        *made += 1;
        format!("R{made}")
    };
    match event {
        Event::Start(_) => Event::Start(fresh()),
        Event::Reissued(..) => Event::Reissued(state.signing.clone(), fresh()),
        Event::Leaves {
            root,
            count,
            holders,
        } => {
            let root = if root == "old" {
                &state.old
            } else {
                &state.new
            };
            Event::Leaves {
                root: root.clone(),
                count,
                holders,
            }
        }
        other => other,
    }
}

/// Whether the event is evidence that everybody has acknowledged.
fn all_acknowledged(event: &Event) -> bool {
    matches!(event, Event::Acknowledged { wanted, answers }
        if answers.digest == *wanted && answers.silent.is_empty() && answers.acknowledged >= answers.total && answers.pilots > 0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn in_every_order_of_events_nobody_is_cut_off(
        events in proptest::collection::vec((event(), 0i64..40), 1..60)
    ) {
        let mut state = State::new("R0".into(), at(1000));
        let (mut now, mut made) = (1000, 0);
        // Certificates are out under these; keys of those are gone; since when evidence has been good.
        let mut signed = HashSet::from(["R0".to_owned()]);
        let mut destroyed = BTreeSet::new();
        let mut good_since: Option<i64> = None;
        for (event, passes) in events {
            now += passes;
            let event = concrete(event, &state, &mut made);
            let Ok((next, actions)) = step(&state, &event, SETTINGS, at(now)) else {
                continue;
            };
            // Evidence about something else is none, neither for nor against.
            let (about, good) = match (&event, state.phase) {
                (Event::Leaves { root, count, .. }, Phase::Drain) => (*root == state.old, *count == 0),
                (Event::Acknowledged { wanted, answers }, Phase::Distribute | Phase::Retire) => {
                    (answers.digest == *wanted, all_acknowledged(&event))
                }
                _ => (false, false),
            };
            if about && good { good_since.get_or_insert(now); } else if about { good_since = None; }
            let good = about && good;
            let settled = good && good_since.is_some_and(|since| now - since >= 30);

            prop_assert!(next.trusted.contains(&next.signing), "what signs is trusted");
            let added: Vec<_> = next.trusted.difference(&state.trusted).collect();
            let gone: Vec<_> = state.trusted.difference(&next.trusted).collect();
            let reissued = matches!(event, Event::Reissued(..));
            prop_assert!(reissued || added.len() + gone.len() <= 1, "superset or subset");
            if !added.is_empty() || !gone.is_empty() || next.signing != state.signing {
                prop_assert!(actions.contains(&Action::Announce));
            }
            if next.signing != state.signing && !reissued {
                prop_assert!(actions.contains(&Action::Sign(next.signing.clone())));
                match &event {
                    Event::Force(reason) => prop_assert!(!reason.is_empty()),
                    Event::Abort => prop_assert!(signed.contains(&next.signing) && state.trusted == next.trusted),
                    other => prop_assert!(state.phase == Phase::Distribute && all_acknowledged(other) && settled),
                }
                prop_assert!(state.trusted.contains(&next.signing), "trusted before it signs");
            }
            for root in gone.iter().filter(|_| !reissued) {
                prop_assert!(**root != next.signing);
                match &event {
                    Event::Force(_) => {}
                    Event::Abort => prop_assert!(!signed.contains(*root), "it has signed nothing"),
                    Event::Leaves { root: drained, count, .. } => {
                        prop_assert!(drained == *root && *count == 0 && settled);
                    }
                    other => prop_assert!(false, "{other:?} took away {root}"),
                }
            }
            for action in &actions {
                if let Action::Destroy(root) = action {
                    destroyed.insert(root.clone());
                }
            }
            prop_assert!(next.trusted.is_disjoint(&destroyed), "what is trusted can sign lists");
            if matches!(event, Event::Force(_)) {
                let told = actions.iter().any(|a| matches!(a, Action::Journal { forced: true, .. }));
                prop_assert!(told);
            }
            if next.phase != state.phase || next.paused != state.paused || matches!(event, Event::Abort | Event::Unknown(_)) {
                good_since = None;
            }
            if state.paused {
                good_since = None;
            }
            // What is kept is what was there: a restart changes nothing.
            let kept: State = serde_json::from_str(&serde_json::to_string(&next).unwrap()).unwrap();
            prop_assert_eq!(&kept, &next);
            state = kept;
            signed.insert(state.signing.clone());
        }
        // From wherever it is, good evidence brings it to its end.
        if state.paused {
            state = step(&state, &Event::Resume, SETTINGS, at(now)).unwrap().0;
        }
        for _ in 0..4 {
            for event in [answers(3, 3), leaves(&state.old.clone(), 0)] {
                for _ in 0..2 {
                    now += 30;
                    state = step(&state, &event, SETTINGS, at(now)).unwrap().0;
                }
            }
        }
        prop_assert_eq!(state.phase, Phase::Idle);
        prop_assert_eq!(state.trusted.len(), 1);
    }
}
