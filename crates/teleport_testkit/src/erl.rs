//! Runs Erlang programs, as the judge of what this workspace writes and reads.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use tempfile::TempDir;

/// The program `erl`.
#[derive(Debug, Clone)]
pub struct Erl {
    program: PathBuf,
}

/// Why an Erlang program gave no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErlError {
    /// There is no `erl` on this machine; tests need one and do not skip.
    #[error(
        "no `erl` in PATH or TELEPORT_ERL; install it: apt-get install --no-install-recommends erlang-base"
    )]
    Missing,
    /// A file of the run could not be written or read, or `erl` not started.
    #[error("{what}: {source}")]
    Io {
        /// What was to be done.
        what: String,
        /// The cause.
        source: io::Error,
    },
    /// The program failed, or did not end in time.
    #[error("the Erlang program ended with {status}:\n{output}")]
    Failed {
        /// How `erl` ended.
        status: ExitStatus,
        /// What it wrote to standard error and output.
        output: String,
    },
}

/// A program that has run to its end, with the files that it left.
#[derive(Debug)]
pub struct Run {
    dir: TempDir,
    stdout: String,
}

/// After this many seconds a program is ended, by its own runtime.
const DEADLINE_SECONDS: u32 = 120;

impl Erl {
    /// Finds `erl`: the file that TELEPORT_ERL names, or the first in PATH.
    ///
    /// # Errors
    ///
    /// [`ErlError`] if there is no Erlang on this machine.
    pub fn find() -> Result<Erl, ErlError> {
        if let Some(program) = std::env::var_os("TELEPORT_ERL") {
            let program = PathBuf::from(program);
            return if program.is_file() { Ok(Erl { program }) } else { Err(ErlError::Missing) };
        }
        let path: OsString = std::env::var_os("PATH").unwrap_or_default();
        let mut candidates = std::env::split_paths(&path).map(|dir| dir.join("erl"));
        candidates.find(|file| file.is_file()).map(|program| Erl { program }).ok_or(ErlError::Missing)
    }

    /// The file found.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// A command that starts it without a shell and without input, for callers with needs of their own.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["-noshell", "-noinput"]).env("ERL_CRASH_DUMP_BYTES", "0").stdin(Stdio::null());
        command
    }

    /// Compiles an Erlang module named `program` and calls its `main/0`, in a directory of its own that holds the files given
    /// by name and content. What `main/0` throws is a failure.
    ///
    /// # Errors
    ///
    /// [`ErlError`] if the module does not compile, or the virtual machine does not end well.
    pub fn run(&self, module: &str, files: &[(&str, &[u8])]) -> Result<Run, ErlError> {
        let dir = tempfile::tempdir().map_err(|source| failed("create a directory", source))?;
        let write = |name: &str, content: &[u8]| {
            fs::write(dir.path().join(name), content)
                .map_err(|source| failed(&format!("write {name}"), source))
        };
        write("program.erl", module.as_bytes())?;
        files.iter().try_for_each(|(name, content)| write(name, content))?;

        // Output goes to files: pipes would have to be read while the program runs.
        let create = |name: &str| {
            File::create(dir.path().join(name)).map_err(|source| failed(&format!("create {name}"), source))
        };
        let status = self
            .command()
            .current_dir(dir.path())
            .stdout(create("stdout")?)
            .stderr(create("stderr")?)
            .args(["-eval", &start()])
            .status()
            .map_err(|source| failed("start erl", source))?;
        let read = |name: &str| {
            let content =
                fs::read(dir.path().join(name)).map_err(|source| failed(&format!("read {name}"), source));
            content.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        };
        let stdout = read("stdout")?;
        if !status.success() {
            return Err(ErlError::Failed { status, output: read("stderr")? + &stdout });
        }
        Ok(Run { dir, stdout })
    }
}

impl Run {
    /// What the program wrote to standard output.
    pub fn stdout(&self) -> &str {
        &self.stdout
    }

    /// The content of a file that it wrote.
    ///
    /// # Errors
    ///
    /// [`ErlError`] if it did not write such a file.
    pub fn file(&self, name: &str) -> Result<Vec<u8>, ErlError> {
        fs::read(self.dir.path().join(name)).map_err(|source| failed(&format!("read {name}"), source))
    }
}

/// The expression that compiles and runs the module, with a deadline.
fn start() -> String {
    format!(
        r#"spawn(fun() -> receive after {DEADLINE_SECONDS} * 1000 -> io:put_chars("no end in time\n"), halt(98) end end),
        try
            {{ok, program, Code}} = compile:file("program.erl", [binary, report]),
            {{module, program}} = code:load_binary(program, "program.erl", Code),
            program:main(),
            halt(0)
        catch Class:Reason:Stack ->
            io:format("~p: ~p~n~p~n", [Class, Reason, Stack]),
            halt(1)
        end."#
    )
}

fn failed(what: &str, source: io::Error) -> ErlError {
    ErlError::Io { what: what.to_string(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_reads_and_writes_files_and_its_failure_is_told() {
        let erl = Erl::find().unwrap_or_else(|error| panic!("{error}"));
        let module = r#"
            -module(program).
            -export([main/0]).
            main() ->
                {ok, Text} = file:read_file("in"),
                ok = file:write_file("out", string:reverse(Text)),
                io:format("done").
        "#;
        let run = erl.run(module, &[("in", b"abc")]).unwrap();
        assert_eq!(run.stdout(), "done");
        assert_eq!(run.file("out").unwrap(), b"cba");
        let error = erl.run(module, &[]).unwrap_err();
        assert!(error.to_string().contains("enoent"), "{error}");
        assert!(run.file("other").unwrap_err().to_string().starts_with("read other"));
    }
}
