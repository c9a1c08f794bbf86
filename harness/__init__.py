"""The jobs: training, the `imax` command line, runs on disk. Imports every other package; none imports it."""

import logging
import warnings

# Where bitsandbytes is installed, peft imports it, and it warns of a kernel that only speeds it up.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
# Where deepspeed is installed, accelerate imports it, and it warns of a missing GPU.
logging.getLogger("DeepSpeed").addFilter(
    lambda record: "Setting accelerator to CPU" not in record.getMessage()
)


def be_quiet() -> None:
    """Of what the libraries say, lets through errors only."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", message=".*pin_memory.*")
