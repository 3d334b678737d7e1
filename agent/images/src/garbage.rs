//! Which images and layers go when the store is too full: those nobody has used for the longest time.

use std::collections::{BTreeMap, BTreeSet};

use agent_core::image::Reference;

/// An image as far as this choice goes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Kept {
    /// Its name in the store.
    pub reference: String,
    /// Its layers.
    pub layers: Vec<String>,
    /// When a container was last made from it.
    pub used_ms: u64,
}

/// What shall go.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Choice {
    /// Images to forget.
    pub images: Vec<String>,
    /// Layers to remove.
    pub layers: Vec<String>,
}

/// Chooses until the layers that stay fit into `limit` bytes. Layers in use never go, nor do images that stand on
/// them alone: forgetting those would free nothing.
#[must_use]
pub fn choose(images: &[Kept], sizes: &BTreeMap<String, u64>, in_use: &BTreeSet<String>, limit: u64) -> Choice {
    let mut order: Vec<&Kept> = images.iter().collect();
    order.sort_by(|one, other| (one.used_ms, &one.reference).cmp(&(other.used_ms, &other.reference)));
    let mut holders: BTreeMap<&str, usize> = sizes.keys().map(|layer| (layer.as_str(), 0)).collect();
    for layer in order.iter().flat_map(|image| unique(image)) {
        *holders.entry(layer).or_default() += 1;
    }
    let size = |layer: &str| sizes.get(layer).copied().unwrap_or(0);
    let mut total: u64 = sizes.values().sum();
    let mut choice = Choice::default();
    // What belongs to no image is left from pulls that failed; it is the first to go.
    for (layer, _) in holders.iter().filter(|(layer, count)| **count == 0 && !in_use.contains(**layer)) {
        if total <= limit {
            return choice;
        }
        total -= size(layer);
        choice.layers.push((*layer).to_owned());
    }
    for image in order {
        if total <= limit {
            break;
        }
        let freed: Vec<&str> = unique(image)
            .into_iter()
            .filter(|layer| holders.get(layer) == Some(&1) && !in_use.contains(*layer) && sizes.contains_key(*layer))
            .collect();
        if image.layers.iter().all(|layer| in_use.contains(layer)) {
            continue;
        }
        for layer in unique(image) {
            if let Some(count) = holders.get_mut(layer) {
                *count -= 1;
            }
        }
        for layer in freed {
            total -= size(layer);
            choice.layers.push(layer.to_owned());
        }
        choice.images.push(image.reference.clone());
    }
    choice
}

/// Everything that is not in use and not named.
#[must_use]
pub fn prune(
    images: &[Kept],
    sizes: &BTreeMap<String, u64>,
    in_use: &BTreeSet<String>,
    excluded: &[Reference],
) -> Choice {
    let excluded: BTreeSet<String> = excluded.iter().map(Reference::to_string).collect();
    let mut kept = in_use.clone();
    for image in images.iter().filter(|image| excluded.contains(&image.reference)) {
        kept.extend(image.layers.iter().cloned());
    }
    let candidates: Vec<Kept> = images.iter().filter(|image| !excluded.contains(&image.reference)).cloned().collect();
    choose(&candidates, sizes, &kept, 0)
}

/// An image may have the same layer twice.
fn unique(image: &Kept) -> BTreeSet<&str> {
    image.layers.iter().map(String::as_str).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(reference: &str, used_ms: u64, layers: &[&str]) -> Kept {
        let layers = layers.iter().map(|&layer| layer.to_owned()).collect();
        Kept { reference: reference.to_owned(), layers, used_ms }
    }

    fn sizes(all: &[(&str, u64)]) -> BTreeMap<String, u64> {
        all.iter().map(|(layer, size)| ((*layer).to_owned(), *size)).collect()
    }

    fn set(all: &[&str]) -> BTreeSet<String> {
        all.iter().map(|&one| one.to_owned()).collect()
    }

    #[test]
    fn the_least_recently_used_goes_first_and_only_as_much_as_needed() {
        let images =
            [image("new", 30, &["base", "n"]), image("old", 10, &["base", "o"]), image("mid", 20, &["m", "m"])];
        let sizes = sizes(&[("base", 100), ("n", 10), ("o", 10), ("m", 10), ("stray", 5)]);
        for (limit, forgotten, removed) in [
            (135, vec![], vec![]),
            (134, vec![], vec!["stray"]),
            (129, vec!["old"], vec!["stray", "o"]),
            (115, vec!["old", "mid"], vec!["stray", "o", "m"]),
            (0, vec!["old", "mid", "new"], vec!["stray", "o", "m", "base", "n"]),
        ] {
            let choice = choose(&images, &sizes, &BTreeSet::new(), limit);
            assert_eq!(
                (choice.images, choice.layers),
                (forgotten.iter().map(|&s| s.to_owned()).collect(), removed.iter().map(|&s| s.to_owned()).collect()),
                "{limit}"
            );
        }
    }

    #[test]
    fn what_containers_use_stays_whatever_the_limit() {
        let images = [image("running", 1, &["base", "r"]), image("other", 2, &["base", "o"])];
        let sizes = sizes(&[("base", 100), ("r", 10), ("o", 10), ("fresh", 50)]);
        let choice = choose(&images, &sizes, &set(&["base", "r", "fresh"]), 0);
        assert_eq!(choice, Choice { images: vec!["other".to_owned()], layers: vec!["o".to_owned()] });
    }

    #[test]
    fn a_prune_leaves_what_is_excluded_or_used() {
        let reference: Reference = "keep:1".parse().unwrap();
        let keep = reference.to_string();
        let images = [image(&keep, 1, &["base", "k"]), image("a", 2, &["base", "a"]), image("b", 3, &["b"])];
        let sizes = sizes(&[("base", 1), ("k", 1), ("a", 1), ("b", 1)]);
        let choice = prune(&images, &sizes, &set(&["b"]), &[reference]);
        assert_eq!(choice.layers, ["a"]);
        assert_eq!(choice.images, ["a"]);
    }

    proptest::proptest! {
        #[test]
        fn no_choice_breaks_an_image_that_stays(
            layers in proptest::collection::vec(proptest::collection::vec(0usize..6, 1..4), 0..6),
            used in proptest::collection::vec(0usize..6, 0..3),
            limit in 0u64..60,
        ) {
            let name = |number: &usize| format!("l{number}");
            let images: Vec<Kept> = layers.iter().enumerate()
                .map(|(at, layers)| Kept { reference: format!("i{at}"), layers: layers.iter().map(name).collect(), used_ms: at as u64 })
                .collect();
            let sizes: BTreeMap<String, u64> = (0..6).map(|number| (name(&number), 10)).collect();
            let in_use: BTreeSet<String> = used.iter().map(name).collect();
            let choice = choose(&images, &sizes, &in_use, limit);
            let removed: BTreeSet<&String> = choice.layers.iter().collect();
            proptest::prop_assert_eq!(removed.len(), choice.layers.len());
            proptest::prop_assert!(removed.iter().all(|layer| !in_use.contains(layer.as_str())));
            for image in images.iter().filter(|image| !choice.images.contains(&image.reference)) {
                proptest::prop_assert!(image.layers.iter().all(|layer| !removed.contains(layer)));
            }
            let left: u64 = 60 - 10 * removed.len() as u64;
            proptest::prop_assert!(left <= limit.max(10 * in_use.len() as u64), "{left} {limit} {in_use:?}");
        }
    }
}
