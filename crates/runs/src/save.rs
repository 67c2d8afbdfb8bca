//! Saves a run's checkpoints and its final model folder.

use crate::checkpoint::files::Files;
use crate::checkpoint::{self, folder_name};
use crate::error::{Error, Result};
use crate::overwrite::remove_aside;
use crate::run_folder::RunFolder;
use crate::run_log::RunLog;
use crate::session::{Collected, Session};

/// Saves a checkpoint, points `latest` and `best` to it, and removes older ones; the metrics are synced before.
pub(crate) fn save(
    session: &Session<'_>,
    collected: &Collected,
    folder: &RunFolder,
    log: &RunLog<'_>,
    files: &dyn Files,
) -> Result<()> {
    let train = &session.plan().config.train;
    log.metrics.sync().map_err(|source| Error::io("sync", log.metrics.path(), source))?;
    let root = folder.checkpoints();
    let name = folder_name(session.training.state.step);
    session.save(collected, &root, &name, files)?;
    checkpoint::point(&root, "latest", &name, files)?;
    let best = session.training.state.best.filter(|best| root.join(folder_name(best.step)).is_dir());
    if let Some(best) = best {
        checkpoint::point(&root, "best", &folder_name(best.step), files)?;
    }
    let also: Vec<u64> = best.filter(|_| train.keep_best > 0).map(|best| best.step).into_iter().collect();
    checkpoint::prune(&root, train.keep_last, train.keep_best, &also, files)?;
    remove_aside(folder, files)
}

/// Copies the best checkpoint's model folder (else the last one's) to the run's `model/`.
pub(crate) fn publish(session: &Session<'_>, folder: &RunFolder, files: &dyn Files) -> Result<()> {
    let root = folder.checkpoints();
    let best = session.training.state.best.map(|best| best.step);
    let steps = checkpoint::steps(&root);
    let Some(step) = best.filter(|step| steps.contains(step)).or(steps.last().copied()) else {
        return Ok(());
    };
    let source = root.join(folder_name(step));
    checkpoint::verify(&source)?;
    checkpoint::save_folder(folder.path(), "model", files, &|dir, files| {
        let names =
            checkpoint::manifest::names(&source).map_err(|error| Error::io("read", &source, error))?;
        for name in names {
            if name.starts_with("train_state") || name == checkpoint::manifest::MANIFEST {
                continue;
            }
            let target = dir.join(&name);
            if let Some(folder) = target.parent().filter(|folder| *folder != dir) {
                files.create_dir(folder).map_err(|error| Error::io("create", folder, error))?;
            }
            std::fs::copy(source.join(&name), &target).map_err(|error| Error::io("write", &target, error))?;
            files.written(&target).map_err(|error| Error::io("write", &target, error))?;
        }
        Ok(())
    })
    .map(|_| ())
}
