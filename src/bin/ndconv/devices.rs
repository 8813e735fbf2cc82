//! `ndconv devices`: what this build can run on, here.

use ndconv::{DType, Device};
use serde_json::json;

use crate::bench::Ceilings;
use crate::exit::{Failure, Outcome};
use crate::output::Output;
use crate::table::{Align, Cell, Table};

/// List what this build can run on: processor, instruction levels, threads, GPUs.
#[derive(clap::Args)]
#[command(after_help = "\
Exit codes: 0 done, 2 an argument is wrong.

Examples:
  ndconv devices
  ndconv devices --ceilings --json")]
pub struct Args {
    /// Measure what the processor can do at best: copy bandwidth and matrix rate.
    #[arg(long)]
    ceilings: bool,
    /// Print JSON in place of the table.
    #[arg(long)]
    json: bool,
}

/// The crate features that this program was built with.
const FEATURES: &[&str] = &[
    "cli",
    #[cfg(feature = "cuda")]
    "cuda",
    #[cfg(feature = "emulator")]
    "emulator",
];

/// The architectures that the embedded kernels were compiled for, each once.
fn architectures() -> Vec<&'static str> {
    let modules = ndconv::kernel_modules().iter();
    let mut archs: Vec<_> = modules.flat_map(|m| m.kernels).map(|k| k.arch).collect();
    archs.sort_unstable();
    archs.dedup();
    archs
}

/// The names of the embedded kernels, each once.
fn kernels() -> Vec<&'static str> {
    let modules = ndconv::kernel_modules().iter();
    let mut names: Vec<_> = modules.flat_map(|m| m.kernels).map(|k| k.name).collect();
    names.sort_unstable();
    names.dedup();
    names
}

impl Args {
    pub fn run(self, out: &mut Output) -> Result<Outcome, Failure> {
        let version = env!("CARGO_PKG_VERSION");
        let target = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
        let (instructions, threads) = (instruction_levels(), rayon::current_num_threads());
        let (gpu, why_not) = Device::cuda_or_cpu(0);
        let why_not = why_not.map(|e| e.to_string());
        let ceilings = match self.ceilings {
            true => Some(Ceilings::measure(&Device::Cpu, &[DType::F32, DType::F64])?),
            false => None,
        };

        if self.json {
            out.json(&json!({
                "version": version,
                "target": target,
                "features": FEATURES,
                "cpu": { "instructions": instructions, "threads": threads,
                    "ceilings": ceilings.as_ref().map(Ceilings::to_json) },
                "cuda": { "available": why_not.is_none(), "reason": why_not,
                    "archs": architectures(), "kernels": kernels() },
            }))?;
            return Ok(Outcome::Done);
        }
        out.line(&format!(
            "ndconv {version}, {target}, features {}",
            FEATURES.join(" ")
        ))?;
        let mut table = Table::new(&[("device", Align::Left), ("what", Align::Left)]);
        let levels = match instructions.is_empty() {
            true => "portable code".to_string(),
            false => instructions.join(" "),
        };
        table.row(["cpu".into(), format!("{threads} threads, {levels}").into()]);
        if let Some(ceilings) = &ceilings {
            table.row([Cell::default(), ceilings.describe().into()]);
        }
        match why_not {
            None => table.row([gpu.to_string().into(), "available".into()]),
            Some(reason) => table.row(["cuda".into(), format!("not available: {reason}").into()]),
        }
        let (archs, kernels) = (architectures(), kernels().len());
        if kernels > 0 {
            let built = format!("{kernels} kernels built for sm_{}", archs.join(", sm_"));
            table.row([Cell::default(), built.into()]);
        }
        table.print(out)?;
        Ok(Outcome::Done)
    }
}

/// The vector instructions of this processor that an engine could use, oldest first.
fn instruction_levels() -> Vec<&'static str> {
    let mut found = Vec::new();
    macro_rules! look_for {
        ($detected:ident: $($name:tt)*) => {
            $(if std::arch::$detected!($name) {
                found.push($name);
            })*
        };
    }
    #[cfg(target_arch = "x86_64")]
    look_for!(is_x86_feature_detected: "sse4.2" "avx" "f16c" "fma" "avx2" "avx512f" "avx512bw"
        "avx512vl" "avx512vnni" "avx512bf16" "avx512fp16");
    #[cfg(target_arch = "aarch64")]
    look_for!(is_aarch64_feature_detected: "neon" "fp16" "bf16" "i8mm" "sve" "sve2");
    found
}
