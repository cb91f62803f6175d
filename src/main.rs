//! The `sardonyx` program: see `sardonyx --help`.

fn main() -> std::process::ExitCode {
    sardonyx::cli::main()
}
