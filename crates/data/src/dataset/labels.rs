//! Numbers of labels: those of the initial model, or sorted.

/// The labels by number, and the number of each of `labels`: those of the initial model if it has all labels of the
/// corpus, by their names or by their numbers.
pub(super) fn numbered(labels: &[String], of_model: &[String]) -> (Vec<String>, Vec<u32>) {
    let by_name = |label: &String| of_model.iter().position(|known| known == label);
    let by_number = |label: &String| label.parse().ok().filter(|&number| number < of_model.len());
    let all = |number: &dyn Fn(&String) -> Option<usize>| -> Option<Vec<u32>> {
        labels.iter().map(|label| Some(number(label)? as u32)).collect()
    };
    match all(&by_name).or_else(|| all(&by_number)) {
        Some(order) if !of_model.is_empty() => (of_model.to_vec(), order),
        _ => ordered(labels),
    }
}

/// The labels sorted, integers as numbers, and the new number of each of `labels`.
fn ordered(labels: &[String]) -> (Vec<String>, Vec<u32>) {
    let mut sorted: Vec<String> = labels.to_vec();
    let numbers: Option<Vec<i64>> = labels.iter().map(|label| label.parse().ok()).collect();
    match numbers {
        Some(_) => sorted.sort_by_key(|label| label.parse::<i64>().unwrap_or(0)),
        None => sorted.sort(),
    }
    let number = |label: &String| sorted.iter().position(|other| other == label).unwrap_or(0) as u32;
    let order = labels.iter().map(number).collect();
    (sorted, order)
}
