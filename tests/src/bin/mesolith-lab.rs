//! `mesolith-lab`: the virtual rack's command line. `./dev` calls it; `serve` is the process behind every rack.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use tests::lab::{self, Commits, Containers, Failover, Format, Freshness, Load, Part, Place, Stay, Up};
use tests::rack::{self, Accelerator, Kind, Programs};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A rack of diskless virtual servers on a private network.
#[derive(Parser)]
#[command(name = "mesolith-lab", version)]
struct Options {
    /// Where the rack keeps its state [default: .lab in the source tree].
    #[arg(long, global = true, value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Start a rack, run a sample task on each node, keep it until Ctrl-C.
    Up(UpArgs),
    /// Print how the running rack stands.
    Status {
        /// For programs: addresses, credentials and the nodes with their consoles.
        #[arg(long)]
        json: bool,
    },
    /// End the running rack.
    Down,
    /// Make the boot image if something in it has changed.
    Image {
        /// Make it in any case.
        #[arg(long)]
        force: bool,
        /// More of mesolith-image's command line.
        #[arg(last = true)]
        more: Vec<String>,
    },
    /// Print the figures: boot, sizes, memory, latency, allocation.
    Bench,
    /// Load a master with simulated agents and schedulers, and print what that costs it.
    Load(LoadArgs),
    /// Kill the leader of three masters under simulated agents and their tasks, and print how long that is felt.
    Failover(FailoverArgs),
    /// Commands committed a second by three masters, beside three members of etcd on the same disk.
    Commits {
        /// How many ask at the same time, one after the other.
        #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 128, 512])]
        clients: Vec<usize>,
        /// How long each of them is measured.
        #[arg(long, default_value_t = 5)]
        seconds: u64,
        /// Bytes in a command.
        #[arg(long, default_value_t = 256)]
        payload: usize,
    },
    /// How long containers take, beside other runtimes, and how many tasks one agent launches a second.
    Containers(ContainersArgs),
    /// Simulated agents of a bench.
    #[command(hide = true)]
    Fleet {
        /// A master's data directory.
        #[arg(long)]
        data: PathBuf,
        /// A master's link.
        #[arg(long)]
        link: String,
        /// The number of the first one.
        #[arg(long)]
        first: usize,
        /// How many.
        #[arg(long)]
        count: usize,
    },
    /// Serve the rack described in DIR/options.json.
    #[command(hide = true)]
    Serve {
        /// The rack's directory.
        directory: PathBuf,
    },
}

#[derive(Args)]
struct UpArgs {
    /// End the rack after the sample tasks.
    #[arg(long, conflicts_with = "detach")]
    once: bool,
    /// Return when the rack is ready; `down` ends it.
    #[arg(long)]
    detach: bool,
    /// How many nodes.
    #[arg(long, default_value_t = 2)]
    nodes: usize,
    /// How many masters: one cluster, of which one leads.
    #[arg(long, default_value_t = 1)]
    masters: usize,
    /// Agents as processes of this host instead of virtual servers: ready in seconds.
    #[arg(long)]
    hosted: bool,
    /// The framework port on 127.0.0.1 [default: 5050, or a free one].
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Memory of each server.
    #[arg(long, value_name = "MIB", default_value_t = 768)]
    memory: u32,
    /// Processors of each server.
    #[arg(long, default_value_t = 1)]
    cpus: u32,
    /// Emulate, without a trial of KVM.
    #[arg(long)]
    emulate: bool,
    /// Boot another image: a directory with vmlinuz and initramfs.img.
    #[arg(long, value_name = "DIR")]
    image: Option<PathBuf>,
    /// Run another mesolith-master.
    #[arg(long, value_name = "FILE")]
    master_program: Option<PathBuf>,
    /// More of the master's command line.
    #[arg(last = true)]
    master_args: Vec<String>,
}

#[derive(Args)]
struct LoadArgs {
    /// How many simulated agents.
    #[arg(long, default_value_t = 10_000)]
    agents: usize,
    /// How many schedulers.
    #[arg(long, default_value_t = 100)]
    frameworks: usize,
    /// How many tasks that end at once, in all.
    #[arg(long, default_value_t = 100_000)]
    tasks: usize,
    /// How many of them at most on one offer.
    #[arg(long, value_name = "N", default_value_t = 100)]
    per_offer: usize,
    /// How many tasks that stay, in all, while the state of everything is read.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    running: usize,
    /// Leave out memory and CPU of agents that do nothing.
    #[arg(long)]
    skip_idle: bool,
    /// For programs.
    #[arg(long)]
    json: bool,
    /// More of the master's command line.
    #[arg(last = true)]
    master_args: Vec<String>,
}

#[derive(Args)]
struct FailoverArgs {
    /// How many simulated agents.
    #[arg(long, default_value_t = 20_000)]
    agents: usize,
    /// How many tasks run on them, in all.
    #[arg(long, default_value_t = 100_000)]
    tasks: usize,
    /// How many schedulers launch them.
    #[arg(long, default_value_t = 20)]
    frameworks: usize,
    /// Do not wait until the agents stand by with the next leader: kill at once.
    #[arg(long)]
    at_once: bool,
    /// How many times the leader is killed.
    #[arg(long, default_value_t = 5)]
    kills: usize,
}

#[derive(Args)]
struct ContainersArgs {
    /// How many containers each runtime makes, by turns; none is no comparison.
    #[arg(long, default_value_t = 40)]
    rounds: usize,
    /// How many tasks run at the same time, one count after the other; none is no agent.
    #[arg(long, value_delimiter = ',', default_values_t = [100, 1000])]
    counts: Vec<usize>,
    /// The other runtimes.
    #[arg(long, value_delimiter = ',', default_values_t = ["crun", "runc", "youki"].map(str::to_owned))]
    beside: Vec<String>,
    /// Only runtimes by turns, no agent.
    #[arg(long)]
    runtimes_only: bool,
    /// Only on this host.
    #[arg(long, conflicts_with = "node")]
    native: bool,
    /// Only in a virtual server.
    #[arg(long)]
    node: bool,
    /// For programs.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    // A machine that booted for a bench alone.
    if std::process::id() == 1 {
        return lab::run_as_init();
    }
    match run(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mesolith-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<()> {
    let dir = options.dir.unwrap_or_else(|| rack::repository().join(".lab"));
    match options.verb {
        Verb::Commits { clients, seconds, payload } => {
            lab::commits(&Commits { clients, length: Duration::from_secs(seconds), payload, dir })
        }
        Verb::Fleet { data, link, first, count } => lab::part(&Part { data, link, first, count }),
        Verb::Serve { directory } => rack::serve(&directory),
        Verb::Up(args) => {
            let stay = match (args.once, args.detach) {
                (true, _) => Stay::Once,
                (false, true) => Stay::Detached,
                (false, false) => Stay::UntilInterrupted,
            };
            lab::up(Up {
                dir,
                nodes: args.nodes,
                masters: args.masters,
                kind: if args.hosted { Kind::Hosted } else { Kind::Virtual },
                stay,
                api_port: args.port,
                memory_mib: args.memory,
                cpus: args.cpus,
                accelerator: args.emulate.then_some(Accelerator::Tcg),
                master_args: args.master_args,
                image_dir: args.image,
                master_program: args.master_program,
            })
        }
        Verb::Status { json } => lab::status(&dir, if json { Format::Json } else { Format::Text }),
        Verb::Down => lab::down(&dir),
        Verb::Image { force, more } => {
            let freshness = if force { Freshness::Again } else { Freshness::IfChanged };
            let out = lab::image(&dir, &Programs::find()?, freshness, &more)?;
            println!("the boot image is in {}", out.display());
            Ok(())
        }
        Verb::Bench => lab::bench(&dir),
        Verb::Containers(args) => {
            let both = [(Place::Native, !args.node), (Place::Node, !args.native)];
            let containers = Containers {
                rounds: args.rounds,
                beside: args.beside,
                counts: if args.runtimes_only { Vec::new() } else { args.counts },
                places: both.into_iter().filter(|(_, wanted)| *wanted).map(|(place, _)| place).collect(),
                tools: dir.join("tools/bin"),
                dir,
            };
            lab::containers(&containers, if args.json { Format::Json } else { Format::Text })
        }
        Verb::Failover(args) => lab::failover(&Failover {
            agents: args.agents,
            tasks: args.tasks,
            frameworks: args.frameworks,
            kills: args.kills,
            standby: !args.at_once,
            dir,
        }),
        Verb::Load(args) => {
            let load = Load {
                agents: args.agents,
                frameworks: args.frameworks,
                tasks: args.tasks,
                per_offer: args.per_offer,
                running: args.running,
                skip_idle: args.skip_idle,
                master_args: args.master_args,
                dir,
            };
            lab::load(&load, if args.json { Format::Json } else { Format::Text })
        }
    }
}
