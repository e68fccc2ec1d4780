//! The program: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    let path = std::env::args().nth(3).unwrap_or_default().into();
    let inputs = gander::config::Inputs {
        path,
        environment: std::env::vars().collect(),
        flags: Vec::new(),
        secrets: gander::config::Secrets::Required,
    };
    let loaded = gander::config::load(&inputs).map_err(|f| format!("{f:?}")).expect("temporary");
    tracing_subscriber::fmt().json().with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("temporary");
    runtime.block_on(async {
        let mut running = match gander::app::start(loaded.config).await {
            Ok(running) => running,
            Err(error) => { eprintln!("{error}"); return ExitCode::from(2); }
        };
        let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).expect("temporary");
        tokio::select! { _ = term.recv() => {}, why = running.failed() => { eprintln!("{why}"); return ExitCode::from(1); } }
        running.stop().await;
        ExitCode::SUCCESS
    })
}
