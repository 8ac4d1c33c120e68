//! A program that is told of new certificates.

use std::process::{Command, Stdio};
use std::sync::Arc;

use service_kit::Stop;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::sync::watch;

use crate::folder::material;
use crate::within;

#[tokio::test]
async fn a_program_is_told_of_each_change() {
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("pid");
    // Says a word for each signal, and one when it is ready for them.
    let mut program = tokio::process::Command::from({
        let mut shell = Command::new("sh");
        shell.args([
            "-c",
            "trap 'echo told' HUP; echo ready; while :; do sleep 0.05; done",
        ]);
        shell
    });
    let mut program = program
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut words = BufReader::new(program.stdout.take().unwrap()).lines();
    assert_eq!(
        within(words.next_line()).await.unwrap().as_deref(),
        Some("ready")
    );
    std::fs::write(&pid_file, format!("{}\n", program.id().unwrap())).unwrap();

    let (sender, receiver) = watch::channel(None);
    let stop = Stop::new();
    let task = tokio::spawn(identity::hang_up_on_change(
        receiver,
        pid_file,
        stop.clone(),
    ));
    for account in ["a", "b"] {
        sender.send_replace(Some(Arc::new(material(account))));
        assert_eq!(
            within(words.next_line()).await.unwrap().as_deref(),
            Some("told")
        );
    }
    stop.trigger();
    within(task).await.unwrap();
}
