//! Checks that all processes were started with the same config, folder and corpus.

use toml::{Table, Value};

use crate::error::{Error, Result, agreed};
use crate::plan::Plan;
use crate::resume::compare;

/// What must be equal on all processes; the number of threads need not.
fn common(plan: &Plan) -> Result<String> {
    let mut config = plan.config.clone();
    config.train.threads = None;
    let unwritable =
        |error: &dyn std::fmt::Display| Error::Usage(format!("the config can't be written as TOML: {error}"));
    let mut table = Table::try_from(&config).map_err(|error| unwritable(&error))?;
    let mut add = |key: &str, value: String| table.insert(key.to_owned(), Value::String(value));
    add("the run's folder", plan.run_dir.display().to_string());
    add("the digest of the corpus", plan.data_mark()?);
    add("the program's version", env!("CARGO_PKG_VERSION").to_owned());
    toml::to_string(&table).map_err(|error| unwritable(&error))
}

/// Checks that all processes follow the same plan.
///
/// # Errors
/// Returns an error on all processes that names the first one that differs, and in what.
pub(crate) fn require_same(plan: &Plan) -> Result<()> {
    let processes = &plan.processes;
    if processes.is_alone() {
        return Ok(());
    }
    let own = agreed(processes, common(plan))?;
    let first = processes.from_first(own.as_bytes())?;
    let parse = |text: &str| text.parse::<Table>().map(Value::Table).unwrap_or(Value::Boolean(false));
    let mut differences = Vec::new();
    compare("", &parse(&String::from_utf8_lossy(&first)), &parse(&own), &mut differences);
    let lines: String = differences.iter().map(|change| format!("\n  {change}")).collect();
    let same = match differences.is_empty() {
        true => Ok(()),
        false => Err(Error::Usage(format!(
            "was started differently from process 0 (process 0's → its own):{lines}\n\
             start all processes with the same command line and the same files"
        ))),
    };
    agreed(processes, same)
}
