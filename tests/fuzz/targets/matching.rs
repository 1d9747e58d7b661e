//! Any order of posting, cancelling, arriving, keeping, peeking and claiming: the matcher gives what two plain lists give, and old
//! ids name nothing.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use opx_defs::units::Lid;
use opx_stack::Address;
use opx_stack::matching::{Matcher, Pattern, PostId, UnexpectedId};

const MOST_STEPS: usize = 2000;

#[derive(Debug, Clone, Copy, Arbitrary)]
struct Tag {
    low: u8,
    /// Tags that differ in high bits only.
    high: bool,
}

impl Tag {
    fn get(self) -> u64 {
        u64::from(self.low % 8) << if self.high { 60 } else { 0 }
    }
}

#[derive(Debug, Clone, Copy, Arbitrary)]
struct Wanted {
    tag: Tag,
    ignore: Ignore,
    source: Option<u8>,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Ignore {
    Nothing,
    All,
    High,
    Some(u8),
}

impl Wanted {
    fn pattern(self) -> Pattern {
        let ignore = match self.ignore {
            Ignore::Nothing => 0,
            Ignore::All => u64::MAX,
            Ignore::High => 0xff << 56,
            Ignore::Some(bits) => bits.into(),
        };
        Pattern { tag: self.tag.get(), ignore, source: self.source.map(address) }
    }
}

#[derive(Debug, Arbitrary)]
enum Step {
    Post(Wanted),
    Arrive(Tag, u8),
    Find(Tag, u8),
    Cancel(u16),
    Keep(Tag, u8),
    Peek(Wanted),
    Claim(Wanted),
    Take(u16),
    Withdraw,
}

fn address(rx: u8) -> Address {
    Address { lid: Lid(7), rx: rx % 4 }
}

fuzz_target!(|steps: Vec<Step>| {
    let mut matcher = Matcher::<usize, usize>::new();
    let (mut posted, mut kept) =
        (Vec::<(PostId, Pattern, usize)>::new(), Vec::<(UnexpectedId, u64, Address, usize)>::new());
    let (mut posts, mut keeps) = (Vec::new(), Vec::new());
    for (n, step) in steps.into_iter().take(MOST_STEPS).enumerate() {
        let waiting = |posted: &[(PostId, Pattern, usize)], tag: u64, source: Address| {
            posted.iter().position(|(_, wanted, _)| {
                tag | wanted.ignore == wanted.tag | wanted.ignore && wanted.source.is_none_or(|from| from == source)
            })
        };
        let first = |kept: &[(UnexpectedId, u64, Address, usize)], wanted: &Pattern| {
            kept.iter().position(|(_, tag, source, _)| {
                tag | wanted.ignore == wanted.tag | wanted.ignore && wanted.source.is_none_or(|from| from == *source)
            })
        };
        match step {
            Step::Post(wanted) => {
                let id = matcher.post(wanted.pattern(), n);
                posts.push(id);
                posted.push((id, wanted.pattern(), n));
            }
            Step::Arrive(tag, source) => {
                let (tag, source) = (tag.get(), address(source));
                let expected = waiting(&posted, tag, source).map(|at| posted.remove(at).2);
                assert_eq!(matcher.would_match(tag, source), expected.is_some());
                assert_eq!(matcher.arrive(tag, source), expected);
            }
            Step::Find(tag, source) => {
                let (tag, source) = (tag.get(), address(source));
                let at = waiting(&posted, tag, source);
                let found = matcher.find(tag, source);
                assert_eq!(found, at.map(|at| posted[at].0));
                if let (Some(id), Some(at)) = (found, at) {
                    let value = matcher.get_mut(id).expect("it was found");
                    assert_eq!(*value, posted[at].2);
                    *value += 1 << 20;
                    posted[at].2 += 1 << 20;
                }
            }
            Step::Cancel(nth) => {
                if let Some(id) = posts.get(usize::from(nth) % posts.len().max(1)) {
                    let at = posted.iter().position(|(posted, ..)| posted == id);
                    assert_eq!(matcher.cancel(*id), at.map(|at| posted.remove(at).2));
                }
            }
            Step::Keep(tag, source) => {
                let id = matcher.keep(tag.get(), address(source), n);
                keeps.push(id);
                kept.push((id, tag.get(), address(source), n));
            }
            Step::Peek(wanted) => {
                let expected = first(&kept, &wanted.pattern()).map(|at| (kept[at].1, kept[at].2, &kept[at].3));
                assert_eq!(matcher.peek(&wanted.pattern()), expected);
            }
            Step::Claim(wanted) => {
                let expected = first(&kept, &wanted.pattern()).map(|at| kept.remove(at));
                assert_eq!(matcher.claim(&wanted.pattern()), expected.map(|(_, tag, source, n)| (tag, source, n)));
            }
            Step::Take(nth) => {
                if let Some(id) = keeps.get(usize::from(nth) % keeps.len().max(1)) {
                    let expected = kept.iter().position(|(kept, ..)| kept == id).map(|at| kept.remove(at));
                    assert_eq!(matcher.kept_mut(*id).copied(), expected.map(|(.., n)| n));
                    assert_eq!(matcher.take_kept(*id), expected.map(|(_, tag, source, n)| (tag, source, n)));
                }
            }
            Step::Withdraw => {
                let expected: Vec<usize> = posted.drain(..).map(|(.., n)| n).collect();
                assert_eq!(matcher.withdraw(), expected);
            }
        }
        assert_eq!((matcher.posted(), matcher.kept()), (posted.len(), kept.len()));
    }
});
