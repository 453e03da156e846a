use anyhow::Context;

use crate::cli::output::print;
use monitor_model::Pretrained;
use monitor_train::hub;

/// Download a pretrained BERT or DistilBERT, for `monitor retrain transformer --base NAME`
///
/// Fetches config.json, model.safetensors and tokenizer.json (or vocab.txt) from the model
/// hub into the cache shared with Python's huggingface_hub, checks sizes and checksums, and
/// prints the folder. Complete files in the cache are not fetched again; interrupted downloads
/// are resumed. Weights in a pickle (pytorch_model.bin) are not fetched.
///
/// Environment, as in Python: HF_HOME (where the cache is; ~/.cache/huggingface), HF_ENDPOINT
/// (another hub), HF_TOKEN (for private and gated models), HF_HUB_OFFLINE=1 (use the
/// cache only), HF_HUB_DOWNLOAD_TIMEOUT (seconds without a byte; 10), HTTPS_PROXY.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The model's name on the hub, such as distilbert-base-uncased or owner/name
    name: String,

    /// Branch, tag or commit
    #[arg(long, value_name = "REVISION", default_value = hub::MAIN)]
    revision: String,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let Args { name, revision } = args;
    let folder = hub::fetch(name, revision, &mut |line| eprintln!("{name}: {line}"))?;
    let base = Pretrained::read(&folder)
        .and_then(|base| base.tokenizer(base.config().positions()))
        .with_context(|| format!("{name} is fetched, but cannot be fine-tuned"))?;
    drop(base);
    print(&format!("{}\n", folder.display()))
}
