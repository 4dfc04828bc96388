//! Items under ascending numbers. They are taken off in about the order in which they
//! came, which costs nothing; any other may go as well, and leaves no hole.

use std::collections::VecDeque;

pub(super) struct Numbered<T>(VecDeque<(u64, T)>);

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> Numbered<T> {
    /// The number is greater than all before.
    pub(super) fn push(&mut self, number: u64, item: T) {
        self.0.push_back((number, item));
    }

    /// Where the first item with this number or a greater one stands.
    fn position(&self, number: u64) -> usize {
        match self.0.front() {
            Some((first, _)) if *first >= number => 0,
            _ => self.0.partition_point(|(other, _)| *other < number),
        }
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        let at = self.position(number);
        let (found, item) = self.0.get_mut(at)?;
        (*found == number).then_some(item)
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<T> {
        let at = self.position(number);
        if self.0.get(at)?.0 != number {
            return None;
        }
        let (_, item) = self.0.remove(at)?;
        Some(item)
    }

    /// Takes out, at one go, what `wanted` says.
    pub(super) fn extract(&mut self, wanted: impl Fn(u64, &T) -> bool) -> Vec<(u64, T)> {
        let (extracted, rest): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.0)
            .into_iter()
            .partition(|(number, item)| wanted(*number, item));
        self.0 = rest;
        extracted.into()
    }

    /// All from this number on.
    pub(super) fn from(&mut self, number: u64) -> impl Iterator<Item = (u64, &mut T)> {
        let at = self.position(number);
        self.0.range_mut(at..).map(|(number, item)| (*number, item))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.0.iter().map(|(number, item)| (*number, item))
    }

    pub(super) fn first(&self) -> Option<u64> {
        self.0.front().map(|(number, _)| *number)
    }

    pub(super) fn last(&self) -> Option<u64> {
        self.0.back().map(|(number, _)| *number)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((any::<bool>(), 0..60_u64), 0..200)) {
            let (mut items, mut model) = (Numbered::default(), BTreeMap::new());
            let mut next = 0;
            for (push, number) in steps {
                if push {
                    next += number % 3 + 1;
                    items.push(next, next);
                    model.insert(next, next);
                } else {
                    prop_assert_eq!(items.remove(number), model.remove(&number));
                }
                if number % 16 == 0 {
                    let odd = |number: u64| number % 2 == 1;
                    prop_assert!(items.extract(|number, _| odd(number)).is_sorted());
                    model.retain(|number, _| !odd(*number));
                }
                prop_assert_eq!(items.get_mut(number), model.get_mut(&number));
                let rest: Vec<u64> = items.from(number).map(|(number, _)| number).collect();
                prop_assert_eq!(rest, model.range(number..).map(|(number, _)| *number).collect::<Vec<_>>());
                prop_assert_eq!((items.first(), items.last()), (model.keys().next().copied(), model.keys().last().copied()));
                prop_assert_eq!(items.iter().count(), items.len());
            }
        }
    }
}
