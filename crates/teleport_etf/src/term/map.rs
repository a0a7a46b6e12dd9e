//! Maps, in the order of their keys.

use super::Term;

/// An Erlang map. Kept in the order of its keys, so that maps of the same content are written the same way.
///
/// ```
/// use teleport_etf::{Map, Term};
///
/// let mut map = Map::new();
/// map.insert(Term::atom("b"), 2.into());
/// map.insert(Term::atom("a"), 1.into());
/// assert_eq!(map.get(&Term::atom("a")), Some(&1.into()));
/// assert_eq!(Term::Map(map).to_string(), "#{a => 1,b => 2}");
/// ```
#[derive(Clone, Default)]
pub struct Map {
    /// Ordered by key, every key once.
    pairs: Vec<(Term, Term)>,
}

impl Map {
    /// An empty map.
    pub const fn new() -> Map {
        Map { pairs: Vec::new() }
    }

    /// A map of these pairs, `None` if a key occurs twice.
    pub fn from_pairs(mut pairs: Vec<(Term, Term)>) -> Option<Map> {
        pairs.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let distinct = pairs.windows(2).all(|pair| pair[0].0 != pair[1].0);
        distinct.then_some(Map { pairs })
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// True if it has no pairs.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The value at a key.
    pub fn get(&self, key: &Term) -> Option<&Term> {
        self.find(key).ok().map(|at| &self.pairs[at].1)
    }

    /// The value at a key, to change it.
    pub fn get_mut(&mut self, key: &Term) -> Option<&mut Term> {
        self.find(key).ok().map(|at| &mut self.pairs[at].1)
    }

    /// Puts a value at a key and returns the one that was there. Takes time in proportion to the size of the map; to build
    /// a large one, collect its pairs.
    pub fn insert(&mut self, key: Term, value: Term) -> Option<Term> {
        match self.find(&key) {
            Ok(at) => Some(std::mem::replace(&mut self.pairs[at].1, value)),
            Err(at) => {
                self.pairs.insert(at, (key, value));
                None
            }
        }
    }

    /// Takes a pair out and returns its value.
    pub fn remove(&mut self, key: &Term) -> Option<Term> {
        self.find(key).ok().map(|at| self.pairs.remove(at).1)
    }

    /// The pairs, ordered by key.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Term, &Term)> + DoubleEndedIterator + Clone {
        self.pairs.iter().map(|(key, value)| (key, value))
    }

    /// The pairs, ordered by key.
    pub(crate) fn pairs(&self) -> &[(Term, Term)] {
        &self.pairs
    }

    fn find(&self, key: &Term) -> Result<usize, usize> {
        self.pairs.binary_search_by(|(at, _)| at.cmp(key))
    }
}

/// Of pairs with the same key the last one stays.
impl FromIterator<(Term, Term)> for Map {
    fn from_iter<I: IntoIterator<Item = (Term, Term)>>(iter: I) -> Map {
        let mut pairs: Vec<(Term, Term)> = iter.into_iter().collect();
        // Stable, and the later one of equals first: that is the one `dedup` keeps.
        pairs.reverse();
        pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
        pairs.dedup_by(|(later, _), (kept, _)| later == kept);
        Map { pairs }
    }
}

impl IntoIterator for Map {
    type Item = (Term, Term);
    type IntoIter = std::vec::IntoIter<(Term, Term)>;

    fn into_iter(self) -> Self::IntoIter {
        self.pairs.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_and_of_equal_ones_the_last_stays() {
        let mut map: Map = (0..100).rev().map(|n| (Term::from(n % 50), Term::from(n))).collect();
        assert_eq!(map.len(), 50);
        assert_eq!(map.get(&7.into()), Some(&7.into()));
        assert_eq!(map.get(&Term::Float(7.0)), None);
        assert_eq!(map.insert(7.into(), Term::nil()), Some(7.into()));
        assert_eq!(map.remove(&7.into()), Some(Term::nil()));
        assert_eq!((map.get(&7.into()), map.len()), (None, 49));
        assert!(map.iter().is_sorted());
    }

    #[test]
    fn a_key_twice_is_told() {
        let pair = |key: i64| (Term::from(key), Term::nil());
        assert!(Map::from_pairs(vec![pair(1), pair(2), pair(1)]).is_none());
        assert!(
            Map::from_pairs(vec![(Term::from(1), Term::nil()), (Term::Float(1.0), Term::nil())]).is_some()
        );
    }
}
