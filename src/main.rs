fn main() -> std::process::ExitCode {
    sardonyx::cli::main()
}
