//! `tollgate test`: runs the golden cases of transforms in the real sandbox.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tollgate_sandbox::{Sandbox, Settings, limits};

use super::{Success, build};
use tollgate_config::error::Failure;
use tollgate_guests::Spec;
use tollgate_guests::golden::{self, GoldenError, Options, Report};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folders of transforms, or folders that contain such folders.
    #[arg(required = true, value_name = "FOLDER")]
    pub folders: Vec<PathBuf>,
    /// Run the cases on this component instead of building the folder's. It may come from any build tool.
    #[arg(long, value_name = "FILE")]
    pub component: Option<PathBuf>,
    /// Write the actual results into the cases that expect something else. Review the diff before you commit it.
    #[arg(long)]
    pub update: bool,
    /// Run only cases whose name contains this text.
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
}

/// # Errors
/// Fails with exit code 1 if a case fails, 2 if a file is invalid, 3 if the toolchain or the disk fails.
pub fn run(args: &Args) -> Result<Success, Failure> {
    let folders = tollgate_guests::folders(&args.folders);
    if args.component.is_some() && folders.len() != 1 {
        return Err(Failure::configuration(
            "test.component",
            "--component names one file, but there are several transforms; name one folder",
        ));
    }
    let mut components = Vec::with_capacity(folders.len());
    for folder in folders {
        let component = match &args.component {
            Some(file) => file.clone(),
            None => component(&folder)?,
        };
        components.push((folder, component));
    }
    let options = Options { update: args.update, filter: args.filter.clone() };
    // Guests run on the calling thread. The shell decides the size of the main thread's stack, so another thread is
    // used.
    let reports = std::thread::scope(|scope| {
        let runner = std::thread::Builder::new().stack_size(2 * limits::THREAD_STACK);
        let thread = runner
            .spawn_scoped(scope, || test(&components, &options))
            .map_err(|error| Failure::environment("environment.thread", error))?;
        thread.join().unwrap_or_else(|_| Err(Failure::failed("test.panic", "a panic interrupted the cases")))
    })?;
    report(&reports)
}

fn test(components: &[(PathBuf, PathBuf)], options: &Options) -> Result<Vec<Report>, Failure> {
    let settings = Settings { lanes: 1, transforms: 1, ..Settings::default() };
    let sandbox = Sandbox::new(settings).map_err(|error| Failure::environment("sandbox.engine", error))?;
    let mut reports = Vec::with_capacity(components.len());
    for (folder, component) in components {
        reports.push(golden::test(&sandbox, folder, component, options).map_err(|error| failure(&error))?);
    }
    Ok(reports)
}

/// Returns the folder's component. Builds it if the folder has a crate; cargo knows whether it is up to date.
fn component(folder: &Path) -> Result<PathBuf, Failure> {
    if folder.join("Cargo.toml").exists() {
        return tollgate_guests::build(folder, None, false)
            .map(|built| built.file)
            .map_err(|error| build::failure(&error));
    }
    let spec = Spec::read(folder).map_err(|errors| Failure::configuration("test.files", errors))?;
    Ok(folder.join(format!("{}.wasm", spec.manifest.name)))
}

fn failure(error: &GoldenError) -> Failure {
    let code = match error {
        GoldenError::Files(_) | GoldenError::File { .. } | GoldenError::Read { .. } => "test.files",
        GoldenError::Protos(_) => "test.protos",
        GoldenError::Load { .. } | GoldenError::Stale { .. } => "test.component",
        GoldenError::Run { .. } => "test.run",
        GoldenError::Write { .. } => "test.write",
    };
    build::of(error.exit(), code, error)
}

fn report(reports: &[Report]) -> Result<Success, Failure> {
    let mut text = String::new();
    for report in reports {
        describe(report, &mut text);
    }
    let cases: usize = reports.iter().map(|report| report.cases.len()).sum();
    let failed = reports.iter().flat_map(|report| &report.cases).filter(|case| !case.ok()).count();
    let result = json!({ "transforms": reports.iter().map(as_json).collect::<Vec<_>>() });
    if failed > 0 {
        let message = format!("{failed} of {} failed", build::count(cases, "case"));
        return Err(Failure::failed("test.failed", message).with(result, text));
    }
    let summary = format!("{} passed", build::count(cases, "case"));
    let _ = writeln!(text, "{summary}");
    Ok(Success::new(summary, result, text))
}

fn describe(report: &Report, text: &mut String) {
    let _ = writeln!(text, "{} ({})", report.name, report.component.display());
    for notice in &report.notices {
        let _ = writeln!(text, "  note    {notice}");
    }
    for case in &report.cases {
        let state = match (case.updated, case.differences.is_empty()) {
            (true, _) => "updated",
            (false, true) => "ok",
            (false, false) => "FAILED",
        };
        let _ = writeln!(text, "  {state:<8}{}  fuel {}", case.name, case.fuel);
        for difference in &case.differences {
            let _ = writeln!(text, "          {difference}");
        }
    }
    let (highest, suggested, limit) = (report.highest_fuel(), report.suggested_fuel(), report.fuel_limit);
    let _ = match highest {
        0 => writeln!(
            text,
            "  no case ran the transform to its end, so no limit can be suggested; current limit {limit}"
        ),
        _ => writeln!(text, "  highest fuel {highest}; suggested limit {suggested}, current limit {limit}"),
    };
}

fn as_json(report: &Report) -> Value {
    let cases = report.cases.iter().map(|case| {
        let differences = case.differences.iter();
        let differences = differences.map(|d| json!({ "path": d.path, "expected": d.expected, "got": d.got }));
        json!({
            "name": case.name, "file": case.file, "ok": case.ok(), "updated": case.updated, "fuel": case.fuel,
            "differences": differences.collect::<Vec<_>>(),
        })
    });
    json!({
        "name": report.name, "component": report.component, "digest": report.digest.to_string(), "ok": report.ok(),
        "notices": report.notices,
        "cases": cases.collect::<Vec<_>>(), "highest_fuel": report.highest_fuel(),
        "suggested_fuel": report.suggested_fuel(), "fuel_limit": report.fuel_limit,
    })
}
