//! `flotilla ca`: the certificate authority, for operators.

pub mod connect;
pub mod enroll;
mod journal;
mod keep;
mod revoke;
mod rotate;
mod status;
mod token;
pub mod words;

use std::process::ExitCode;

use clap::Subcommand;

/// Flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say how the authority stands
    Status(status::Args),
    /// Print what was issued and done, newest first
    Journal(journal::Args),
    /// Take certificates or an identity back
    Revoke(revoke::RevokeArgs),
    /// Take a revocation back
    Lift(revoke::LiftArgs),
    /// Print every revocation, newest first
    Revocations(revoke::ListArgs),
    /// Replace the root without an interruption
    Rotate(rotate::Args),
    /// One-time join tokens
    Token(token::Args),
    /// Get a certificate with a join token
    Enroll(enroll::Args),
    /// Keep a certificate for another program, such as NATS, and tell it of each new one
    Keep(Box<keep::Args>),
}

/// Runs one of the commands.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Status(args) => status::run(args).await,
        Command::Journal(args) => journal::run(args).await,
        Command::Revoke(args) => revoke::revoke(args).await,
        Command::Lift(args) => revoke::lift(args).await,
        Command::Revocations(args) => revoke::list(args).await,
        Command::Rotate(args) => rotate::run(args).await,
        Command::Token(args) => token::run(args).await,
        Command::Enroll(args) => enroll::run(args).await,
        Command::Keep(args) => keep::run(*args).await,
    }
}
