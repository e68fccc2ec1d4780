fn main() -> std::process::ExitCode {
    gander::cli::main()
}
