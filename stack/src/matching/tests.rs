//! What the matcher does, against two plain lists; and what it costs, in steps.

use super::*;
use opx_defs::units::Lid;
use proptest::prelude::*;
use std::cell::Cell;

thread_local! {
    /// Steps done on this thread.
    pub(super) static STEPS: Cell<u64> = const { Cell::new(0) };
}

fn from(rx: u8) -> Address {
    Address { lid: Lid(1), rx }
}

/// One of many sources.
fn node(n: u32) -> Address {
    Address { lid: Lid(n / 100 + 1), rx: (n % 100) as u8 }
}

fn masked(tag: u64, ignore: u64) -> Pattern {
    Pattern { tag, ignore, source: None }
}

fn directed(tag: u64, source: Address) -> Pattern {
    Pattern { tag, ignore: 0, source: Some(source) }
}

/// The plainest thing that does the same: two lists, looked through in order.
#[derive(Default)]
struct Model {
    posted: Vec<(PostId, Pattern, u32)>,
    kept: Vec<(UnexpectedId, u64, Address, u32)>,
}

impl Model {
    fn first_posted(&self, tag: u64, source: Address) -> Option<usize> {
        self.posted.iter().position(|(_, pattern, _)| {
            pattern.tag & !pattern.ignore == tag & !pattern.ignore && pattern.source.is_none_or(|from| from == source)
        })
    }

    fn first_kept(&self, pattern: &Pattern) -> Option<usize> {
        self.kept.iter().position(|(_, tag, source, _)| {
            pattern.tag | pattern.ignore == tag | pattern.ignore && pattern.source.is_none_or(|from| from == *source)
        })
    }
}

#[derive(Debug, Clone)]
enum Step {
    Post(Pattern),
    Arrive(u64, Address),
    /// The same, the short way if that can be; when the flag isn't set the receive is looked at and left.
    Usual(u64, Address, bool),
    /// A message for a receive that stays where it is.
    Fill(u64, Address),
    /// The receive with the n-th id of all that there were.
    Cancel(usize),
    Keep(u64, Address),
    Peek(Pattern),
    Claim(Pattern),
    /// More of the message with the n-th id of all that there were.
    Grow(usize),
    Take(usize),
    /// As endpoints do it: a receive is posted if nothing waits for it, a message kept if nothing waits for it.
    Receive(Pattern),
    Message(u64, Address),
    Withdraw,
}

fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    // Few tags, so that things match; also such that differ in high bits only.
    let tag = || prop_oneof![8 => 0u64..8, 1 => (0u64..4).prop_map(|tag| tag << 62)];
    let source = || (0u8..3).prop_map(from);
    let ignore = || {
        prop_oneof![
            6 => Just(0u64),
            4 => prop_oneof![Just(1u64), Just(6), Just(u64::MAX), Just(3 << 62)],
            // Many masks: more than there may be views.
            1 => 0u64..64,
        ]
    };
    let pattern = move || {
        (tag(), ignore(), proptest::option::weighted(0.3, source())).prop_map(|(tag, ignore, source)| Pattern {
            tag,
            ignore,
            source,
        })
    };
    let message = move || (tag(), source());
    let step = prop_oneof![
        12 => pattern().prop_map(Step::Post),
        12 => message().prop_map(|(tag, source)| Step::Arrive(tag, source)),
        12 => (message(), any::<bool>()).prop_map(|((tag, source), take)| Step::Usual(tag, source, take)),
        6 => message().prop_map(|(tag, source)| Step::Fill(tag, source)),
        6 => any::<usize>().prop_map(Step::Cancel),
        12 => message().prop_map(|(tag, source)| Step::Keep(tag, source)),
        6 => pattern().prop_map(Step::Peek),
        12 => pattern().prop_map(Step::Claim),
        6 => any::<usize>().prop_map(Step::Grow),
        6 => any::<usize>().prop_map(Step::Take),
        12 => pattern().prop_map(Step::Receive),
        12 => message().prop_map(|(tag, source)| Step::Message(tag, source)),
        1 => prop_oneof![9 => Just(Step::Peek(Pattern::exact(0))), 1 => Just(Step::Withdraw)],
    ];
    proptest::collection::vec(step, 1..most)
}

/// The matcher, its model, and all ids that were ever given.
#[derive(Default)]
struct Pair {
    matcher: Matcher<u32, u32>,
    model: Model,
    posts: Vec<PostId>,
    keeps: Vec<UnexpectedId>,
}

impl Pair {
    fn post(&mut self, pattern: Pattern, n: u32) {
        let id = self.matcher.post(pattern, n);
        assert!(!self.posts.contains(&id), "an id names two receives");
        self.posts.push(id);
        self.model.posted.push((id, pattern, n));
    }

    fn keep(&mut self, tag: u64, source: Address, n: u32) {
        let id = self.matcher.keep(tag, source, n);
        assert!(!self.keeps.contains(&id), "an id names two messages");
        self.keeps.push(id);
        self.model.kept.push((id, tag, source, n));
    }

    fn claim(&mut self, pattern: &Pattern) -> bool {
        let expected = self.model.first_kept(pattern).map(|at| self.model.kept.remove(at));
        assert_eq!(self.matcher.claim(pattern), expected.map(|(_, tag, source, n)| (tag, source, n)));
        expected.is_some()
    }

    fn arrive(&mut self, tag: u64, source: Address) -> bool {
        let expected = self.model.first_posted(tag, source);
        assert_eq!(self.matcher.would_match(tag, source), expected.is_some());
        let expected = expected.map(|at| self.model.posted.remove(at).2);
        assert_eq!(self.matcher.arrive(tag, source), expected);
        expected.is_some()
    }

    fn step(&mut self, n: u32, step: Step) {
        match step {
            Step::Post(pattern) => self.post(pattern, n),
            Step::Arrive(tag, source) => {
                self.arrive(tag, source);
            }
            Step::Usual(tag, source, take) => {
                let expected = self.model.first_posted(tag, source);
                let mut seen = None;
                let taken = self.matcher.take_usual((tag, source), |receive| {
                    seen = Some(*receive);
                    take.then_some(*receive)
                });
                let posted = &mut self.model.posted;
                // When all ask in one way it is always found.
                let plain = posted.iter().all(|(_, pattern, _)| pattern.ignore == 0 && pattern.source.is_none());
                assert!(seen.is_some() || !plain || expected.is_none());
                if seen.is_some() {
                    assert_eq!(seen, expected.map(|at| posted[at].2));
                }
                assert_eq!(taken, seen.filter(|_| take));
                if let Some(at) = expected.filter(|_| taken.is_some()) {
                    posted.remove(at);
                }
            }
            Step::Fill(tag, source) => {
                let at = self.model.first_posted(tag, source);
                let found = self.matcher.find(tag, source);
                assert_eq!(found, at.map(|at| self.model.posted[at].0));
                if let (Some(id), Some(at)) = (found, at) {
                    *self.matcher.get_mut(id).unwrap() += 1000;
                    self.model.posted[at].2 += 1000;
                    assert_eq!(self.matcher.get(id), Some(&self.model.posted[at].2));
                }
            }
            Step::Cancel(nth) => {
                if self.posts.is_empty() {
                    return;
                }
                let id = self.posts[nth % self.posts.len()];
                let at = self.model.posted.iter().position(|(posted, ..)| *posted == id);
                let expected = at.map(|at| self.model.posted.remove(at).2);
                assert_eq!(self.matcher.get(id).copied(), expected);
                let gone = if nth % 2 == 0 { self.matcher.cancel(id) } else { self.matcher.take(id) };
                assert_eq!(gone, expected);
            }
            Step::Keep(tag, source) => self.keep(tag, source, n),
            Step::Peek(pattern) => {
                let expected = self.model.first_kept(&pattern).map(|at| &self.model.kept[at]);
                let expected = expected.map(|(_, tag, source, n)| (*tag, *source, n));
                assert_eq!(self.matcher.peek(&pattern), expected);
            }
            Step::Claim(pattern) => {
                self.claim(&pattern);
            }
            Step::Grow(nth) | Step::Take(nth) => {
                if self.keeps.is_empty() {
                    return;
                }
                let id = self.keeps[nth % self.keeps.len()];
                let at = self.model.kept.iter().position(|(kept, ..)| *kept == id);
                assert_eq!(self.matcher.kept_mut(id).copied(), at.map(|at| self.model.kept[at].3));
                if matches!(step, Step::Take(_)) {
                    let expected = at.map(|at| self.model.kept.remove(at)).map(|(_, tag, from, n)| (tag, from, n));
                    assert_eq!(self.matcher.take_kept(id), expected);
                } else if let Some(at) = at {
                    *self.matcher.kept_mut(id).unwrap() += 1000;
                    self.model.kept[at].3 += 1000;
                }
            }
            Step::Receive(pattern) => {
                if !self.claim(&pattern) {
                    self.post(pattern, n);
                }
            }
            Step::Message(tag, source) => {
                if !self.arrive(tag, source) {
                    self.keep(tag, source, n);
                }
            }
            Step::Withdraw => {
                let expected: Vec<u32> = self.model.posted.drain(..).map(|(_, _, n)| n).collect();
                assert_eq!(self.matcher.withdraw(), expected);
            }
        }
        assert_eq!(self.matcher.posted(), self.model.posted.len());
        assert_eq!(self.matcher.kept(), self.model.kept.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn agrees_with_two_plain_lists(steps in steps(3000)) {
        let mut pair = Pair::default();
        for (n, step) in steps.into_iter().enumerate() {
            pair.step(n as u32, step);
        }
        // Nothing is lost, and all is in order.
        for n in (0..8).chain((1..4).map(|tag| tag << 62)) {
            while pair.arrive(n, from(0)) || pair.arrive(n, from(1)) || pair.arrive(n, from(2)) {}
            while pair.claim(&Pattern::exact(n)) {}
        }
        assert_eq!((pair.matcher.posted(), pair.matcher.kept()), (0, 0));
    }
}

const MANY: u32 = 100_000;

/// Steps of `work`.
fn steps_of(work: impl FnOnce()) -> u64 {
    let before = STEPS.get();
    work();
    STEPS.get() - before
}

/// Does `one` with each of many, and asserts that one takes no more than a few steps: `mean` on average, and never many more.
#[track_caller]
fn assert_constant(what: &str, mean: u64, mut one: impl FnMut(u32)) {
    let steps: Vec<u64> = (0..MANY).map(|n| steps_of(|| one(n))).collect();
    let (total, most) = (steps.iter().sum::<u64>(), steps.iter().max().copied().unwrap_or(0));
    assert!(total <= mean * u64::from(MANY), "{what}: {} steps on average", total as f64 / f64::from(MANY));
    // The longest of so many chains has about 8 queues; each is gone through a few times in one operation.
    assert!(most <= mean + 40, "{what}: {most} steps at worst");
}

/// A name, and the n-th tag.
type Family = (&'static str, fn(u32) -> u64);

/// Tags as applications choose them, and as somebody might who wants them to collide.
fn tag_families() -> Vec<Family> {
    vec![
        ("counting", |n| n.into()),
        ("in the high half", |n| u64::from(n) << 32),
        ("in the highest bits", |n| u64::from(n).reverse_bits()),
        ("multiples of 2^20", |n| u64::from(n) << 20),
        ("both halves the same", |n| u64::from(n) << 32 | u64::from(n)),
        ("context, source and tag of an MPI", |n| 3 << 48 | u64::from(n % 317) << 32 | u64::from(n / 317)),
        ("multiples of the golden ratio's inverse", |n| u64::from(n).wrapping_mul(0xf1de_83e1_9937_733d)),
        ("all the same", |_| 5),
    ]
}

#[test]
fn exact_receives_cost_the_same_however_many_there_are() {
    for (family, tag) in tag_families() {
        let mut matcher = Matcher::<u32, u32>::new();
        let mut ids = Vec::new();
        assert_constant(&format!("post, {family}"), 8, |n| ids.push(matcher.post(Pattern::exact(tag(n)), n)));
        // Any tag but one that all have: the first comes first.
        let backwards = |n: u32| if family == "all the same" { n } else { MANY - 1 - n };
        assert_constant(&format!("find, {family}"), 4, |n| {
            assert!(matcher.would_match(tag(n), node(n)));
        });
        assert_constant(&format!("arrive, {family}"), 6, |n| {
            assert_eq!(matcher.arrive(tag(backwards(n)), node(n)), Some(backwards(n)));
        });
        for n in 0..MANY {
            ids[n as usize] = matcher.post(Pattern::exact(tag(n)), n);
        }
        assert_constant(&format!("cancel, {family}"), 6, |n| {
            // In an order that has nothing to do with that of posting.
            let n = (u64::from(n) * 61_357 % u64::from(MANY)) as u32;
            assert_eq!(matcher.cancel(ids[n as usize]), Some(n));
        });
    }
}

#[test]
fn directed_receives_of_one_tag_cost_the_same_however_many_there_are() {
    let mut matcher = Matcher::<u32, u32>::new();
    assert_constant("post", 8, |n| {
        matcher.post(directed(9, node(n)), n);
    });
    assert_constant("arrive", 6, |n| {
        let n = MANY - 1 - n;
        assert_eq!(matcher.arrive(9, node(n)), Some(n));
    });
    // With as many for anybody beside them.
    for n in 0..MANY {
        matcher.post(directed(9, node(n)), n);
        matcher.post(Pattern::exact(9), n);
    }
    assert_constant("arrive, with both kinds", 8, |n| {
        let n = MANY - 1 - n;
        matcher.arrive(9, node(n)).unwrap();
    });
}

#[test]
fn receives_with_masks_cost_by_the_number_of_masks() {
    for masks in [1, 8, 64] {
        let mut matcher = Matcher::<u32, u32>::new();
        let mask = |n: u32| 1u64 << 63 | u64::from(n % masks);
        assert_constant("post", 8 + u64::from(masks), |n| {
            matcher.post(masked(u64::from(n) << 8, mask(n)), n);
        });
        assert_constant("arrive", 6 + 4 * u64::from(masks), |n| {
            assert_eq!(matcher.arrive(u64::from(n) << 8 | 1 << 63, node(n)), Some(n));
        });
        // Masks that have gone cost nothing.
        for n in 0..MANY {
            matcher.post(Pattern::exact(n.into()), n);
        }
        assert_constant("arrive without masks", 6, |n| {
            matcher.arrive(n.into(), node(n)).unwrap();
        });
    }
}

#[test]
fn any_message_of_any_tag_costs_the_same_however_many_there_are() {
    let mut matcher = Matcher::<u32, u32>::new();
    for n in 0..MANY {
        matcher.post(masked(n.into(), u64::MAX), n);
        matcher.keep(n.into(), node(n), n);
    }
    matcher.peek(&masked(0, u64::MAX));
    assert_constant("arrive", 6, |n| assert_eq!(matcher.arrive(n.into(), node(n)), Some(n)));
    assert_constant("claim", 8, |n| {
        assert_eq!(matcher.claim(&masked(0, u64::MAX)), Some((n.into(), node(n), n)));
    });
}

#[test]
fn unexpected_messages_cost_the_same_however_many_there_are() {
    for (family, tag) in tag_families() {
        let mut matcher = Matcher::<u32, u32>::new();
        for n in 0..MANY {
            matcher.keep(tag(n), node(n), n);
        }
        let mut build = |pattern: &Pattern| {
            let steps = steps_of(|| assert!(matcher.peek(pattern).is_some()));
            assert!(steps <= 8 * u64::from(MANY), "{steps} steps to build a view");
        };
        build(&Pattern::exact(tag(7)));
        build(&directed(tag(7), node(7)));
        build(&masked(tag(7), 0xff));
        assert_constant(&format!("peek, {family}"), 4, |n| {
            assert!(matcher.peek(&Pattern::exact(tag(n))).is_some());
        });
        assert_constant(&format!("peek by source, {family}"), 4, |n| {
            assert_eq!(matcher.peek(&directed(tag(n), node(n))), Some((tag(n), node(n), &n)));
        });
        assert_constant(&format!("peek by mask, {family}"), 5, |n| {
            assert!(matcher.peek(&masked(tag(n), 0xff)).is_some());
        });
        // Into and out of three views.
        assert_constant(&format!("claim and keep, {family}"), 30, |n| {
            let n = MANY - 1 - n;
            assert_eq!(matcher.claim(&directed(tag(n), node(n))), Some((tag(n), node(n), n)));
            matcher.keep(tag(n), node(n), n);
        });
        assert_constant(&format!("claim, {family}"), 14, |n| {
            assert!(matcher.claim(&Pattern::exact(tag(n))).is_some());
        });
    }
}

#[test]
fn a_view_that_nobody_asks_goes_and_comes_back() {
    let mut matcher = Matcher::<u32, u32>::new();
    matcher.keep(0, from(0), 0);
    // Each of these masks was used once.
    for mask in 1..=1000 {
        assert!(matcher.peek(&masked(0, mask)).is_some());
        assert!(matcher.messages.views() <= 32);
    }
    assert!(matcher.messages.views() > 1);
    for n in 0..1000 {
        assert!(matcher.peek(&masked(0, 1)).is_some());
        matcher.keep(8, from(0), n);
        assert!(matcher.claim(&Pattern::exact(8)).is_some());
    }
    assert_eq!(matcher.messages.views(), 1);
    assert_eq!(matcher.peek(&masked(7, 7)), Some((0, from(0), &0)));
    assert_eq!(matcher.messages.views(), 2);
}

#[test]
fn more_masks_than_views_still_find_the_first() {
    let mut matcher = Matcher::<u32, u32>::new();
    for n in 0..1000 {
        matcher.keep(u64::from(n) << 8, from(0), n);
    }
    for round in 0..3 {
        for mask in 1..=200 {
            let n = (mask as u32 + round) % 1000;
            assert_eq!(matcher.peek(&masked(u64::from(n) << 8, mask)), Some((u64::from(n) << 8, from(0), &n)));
        }
    }
}

#[test]
fn nothing_grows_by_use() {
    let mut matcher = Matcher::<u32, u32>::new();
    for n in 0..MANY {
        let tag = u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let ids = [Pattern::exact(tag), directed(tag, node(n)), masked(tag, 1 << (n % 64))];
        let ids = ids.map(|pattern| matcher.post(pattern, n));
        assert!(matcher.cancel(ids[2]).is_some());
        matcher.keep(tag, node(n), n);
        assert!(matcher.claim(&directed(tag, node(n))).is_some());
        assert!(matcher.arrive(tag, node(n)).is_some() && matcher.arrive(tag, node(n)).is_some());
    }
    assert!(matcher.receives.footprint() <= 64, "{}", matcher.receives.footprint());
}
