//! Builds `kernels/*.cu`: with nvcc into fat binaries that the crate embeds (feature `cuda`), and
//! with the C++ compiler into the emulator (feature `emulator`).
//!
//! `NDCONV_CUDA` is `auto` (default: no nvcc is a warning), `require` (an error) or `off`;
//! `NDCONV_CUDA_ARCHS` replaces the list of architectures, for example `75,80,90`.

use std::collections::hash_map::DefaultHasher;
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Machine code for these, and PTX of the lowest, which drivers compile for what comes later.
const ARCHS: &str = "80,86,89,90";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=kernels");
    for variable in [
        "NVCC",
        "CUDA_HOME",
        "CUDA_PATH",
        "NDCONV_CUDA",
        "NDCONV_CUDA_ARCHS",
    ] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    let sources = sources("cu");
    #[cfg(feature = "emulator")]
    build_emulator(&sources);
    let built = build_fatbins(&sources);
    let (modules, why_not) = match &built {
        Ok(modules) => (modules.as_slice(), ""),
        Err(why) => (&[][..], why.as_str()),
    };
    let table = render(modules, why_not);
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::write(out.join("kernels.rs"), table).expect("OUT_DIR can be written");
}

/// The kernel files with this extension, in a fixed order.
fn sources(extension: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir("kernels")
        .expect("kernels/ is part of the crate")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .collect();
    files.sort();
    files
}

/// The kernels as C++ for the emulator; the archive is linked whole, because kernels register
/// themselves and nothing names them.
#[cfg(feature = "emulator")]
fn build_emulator(sources: &[PathBuf]) {
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .opt_level(2)
        .debug(false)
        .pic(true)
        .flag("-ffp-contract=off")
        .flag("-fno-exceptions")
        .flag_if_supported("-Wno-unknown-pragmas")
        .flag("-xc++")
        .files(sources)
        .files(["fiber.cpp", "runtime.cpp", "planted.cu"].map(|f| format!("kernels/emulator/{f}")))
        .link_lib_modifier("+whole-archive")
        .compile("ndconv_emulator");
}

/// One compiled source file.
struct Module {
    name: String,
    fatbin: PathBuf,
    /// What ptxas said about it, all architectures in one.
    log: String,
}

fn build_fatbins(sources: &[PathBuf]) -> Result<Vec<Module>, String> {
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return Err("the feature `cuda` is off".into());
    }
    let mode = env::var("NDCONV_CUDA").unwrap_or_else(|_| "auto".into());
    match mode.as_str() {
        "off" => return Err("it was built with NDCONV_CUDA=off".into()),
        "auto" | "require" => {}
        other => panic!("NDCONV_CUDA is {other:?}; it must be auto, require or off"),
    }
    let Some(nvcc) = find_nvcc() else {
        let why = "nvcc was not found when the crate was built: install the CUDA toolkit, or run \
                   scripts/install-nvcc.sh";
        if mode == "require" {
            panic!("{why} (looked at NVCC, CUDA_HOME, CUDA_PATH, PATH, /usr/local/cuda, .cuda)");
        }
        println!("cargo:warning=no CUDA kernels in this build: {why}");
        return Err(why.into());
    };
    let version = run(Command::new(&nvcc).arg("--version"));
    let flags = flags(&version);
    let mut shared = DefaultHasher::new();
    (&version, &flags).hash(&mut shared);
    for header in self::sources("cuh") {
        fs::read(header).expect("a header").hash(&mut shared);
    }
    // Beside the profiles, so that every profile and feature set shares what nvcc made.
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let cache = out
        .ancestors()
        .nth(4)
        .unwrap_or(&out)
        .join("ndconv-kernels");
    fs::create_dir_all(&cache).expect("the target directory can be written");
    let jobs = env::var("NUM_JOBS").ok().and_then(|n| n.parse().ok());
    let (next, built) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..jobs.unwrap_or(1usize).clamp(1, sources.len().max(1)) {
            scope.spawn(|| {
                while let Some(source) = sources.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let module = compile(&nvcc, &flags, source, &cache, shared.clone());
                    built.lock().expect("no panic while held").push(module);
                }
            });
        }
    });
    let mut modules = built.into_inner().expect("no panic while held");
    modules.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(modules)
}

fn find_nvcc() -> Option<PathBuf> {
    let from_home = |home: PathBuf| home.join("bin").join("nvcc");
    let variables = [env::var_os("NVCC").map(PathBuf::from)]
        .into_iter()
        .chain(["CUDA_HOME", "CUDA_PATH"].map(|v| env::var_os(v).map(|h| from_home(h.into()))))
        .flatten();
    let path = env::var_os("PATH").unwrap_or_default();
    let local = env::current_dir().ok().map(|d| from_home(d.join(".cuda")));
    variables
        .chain(env::split_paths(&path).map(|d| d.join("nvcc")))
        .chain([from_home("/usr/local/cuda".into())])
        .chain(local)
        .find(|nvcc| nvcc.is_file())
}

fn flags(version: &str) -> Vec<String> {
    // Rounding is what the source says: fused multiply-adds only where it asks for one.
    let mut flags: Vec<String> = ["-std=c++17", "-O3", "-fmad=false", "-fatbin", "-Xptxas=-v"]
        .map(String::from)
        .to_vec();
    let release = version.split("release ").nth(1).unwrap_or("0");
    let mut numbers = release
        .split(['.', ','])
        .map_while(|n| n.trim().parse::<u32>().ok());
    if (numbers.next(), numbers.next()) >= (Some(12), Some(8)) {
        flags.push("-compress-mode=size".into());
    }
    let list = env::var("NDCONV_CUDA_ARCHS").unwrap_or_else(|_| ARCHS.into());
    let archs: Vec<&str> = list
        .split([',', ';', ' '])
        .map(str::trim)
        .filter(|a| !a.is_empty())
        .collect();
    for arch in &archs {
        flags.push(format!("-gencode=arch=compute_{arch},code=sm_{arch}"));
    }
    // PTX of an `a` architecture runs nowhere else.
    let plain = archs.iter().filter_map(|a| a.parse::<u32>().ok()).min();
    if let Some(floor) = plain {
        flags.push(format!(
            "-gencode=arch=compute_{floor},code=compute_{floor}"
        ));
    }
    flags
}

fn compile(
    nvcc: &Path,
    flags: &[String],
    source: &Path,
    cache: &Path,
    mut hash: DefaultHasher,
) -> Module {
    let name = source
        .file_stem()
        .expect("a .cu file")
        .to_string_lossy()
        .into_owned();
    fs::read(source).expect("a kernel file").hash(&mut hash);
    let stem = format!("{name}-{:016x}", hash.finish());
    let (fatbin, log) = (
        cache.join(format!("{stem}.fatbin")),
        cache.join(format!("{stem}.log")),
    );
    if !fatbin.is_file() || !log.is_file() {
        let unfinished = cache.join(format!("{stem}.{}", std::process::id()));
        let mut command = Command::new(nvcc);
        command.args(flags).arg(source).arg("-o").arg(&unfinished);
        fs::write(&log, run(&mut command)).expect("the target directory can be written");
        fs::rename(&unfinished, &fatbin).expect("the target directory can be written");
    }
    let log = fs::read_to_string(log).expect("written beside the fatbin");
    Module { name, fatbin, log }
}

/// Output and error output of a command that must succeed.
fn run(command: &mut Command) -> String {
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => panic!("{command:?}: {error}"),
    };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success(), "{command:?} failed:\n{text}");
    text
}

/// The table that `src/cuda/kernel.rs` includes.
fn render(modules: &[Module], why_not: &str) -> String {
    let mut text = format!(
        "pub static WHY_NOT: &str = {why_not:?};\n\
         pub static HASH: &str = \"{:016x}\";\n\
         pub static MODULES: &[Module] = &[\n",
        hash_of_all(modules)
    );
    for module in modules {
        let _ = writeln!(
            text,
            "Module {{ name: {:?}, image: include_bytes!({:?}), kernels: &[",
            module.name, module.fatbin
        );
        for kernel in kernels(&module.log) {
            let _ = writeln!(text, "{kernel},");
        }
        text.push_str("] },\n");
    }
    text.push_str("];\n");
    text
}

/// Of all sources, and of what nvcc made of them.
fn hash_of_all(modules: &[Module]) -> u64 {
    let mut hash = DefaultHasher::new();
    for source in ["cu", "cuh"].iter().flat_map(|e| sources(e)) {
        fs::read(source).expect("a kernel file").hash(&mut hash);
    }
    for module in modules {
        fs::read(&module.fatbin).expect("a fatbin").hash(&mut hash);
    }
    hash.finish()
}

/// What ptxas reports of every kernel and architecture, as `Compiled` values.
fn kernels(log: &str) -> Vec<String> {
    let number = |line: &str, before: &str| -> u32 {
        let words: Vec<&str> = line
            .split(before)
            .next()
            .unwrap_or("")
            .split_whitespace()
            .collect();
        words.last().and_then(|w| w.parse().ok()).unwrap_or(0)
    };
    let mut found = Vec::new();
    let (mut entry, mut spills) = (None, 0);
    for line in log.lines() {
        if let Some(rest) = line.split("Compiling entry function '").nth(1) {
            let mut quoted = rest.split('\'');
            let name = quoted.next().unwrap_or("").to_owned();
            let arch = quoted
                .nth(1)
                .unwrap_or("")
                .trim_start_matches("sm_")
                .to_owned();
            entry = Some((name, arch));
        } else if line.contains("bytes spill stores") {
            spills = number(line, " bytes spill stores") + number(line, " bytes stack frame");
        } else if line.contains("Used ")
            && line.contains(" registers")
            && let Some((name, arch)) = entry.take()
        {
            let registers = number(line, " registers");
            found.push(format!(
                "Compiled {{ name: {name:?}, arch: {arch:?}, registers: {registers}, \
                 local_bytes: {spills} }}"
            ));
        }
    }
    found.sort();
    found
}
