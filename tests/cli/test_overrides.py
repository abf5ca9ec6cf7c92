"""`--config`: values laid over a configuration or a study, such as the packaged tiny sizes."""

import jax
import pytest
from small_experiments import refused

from maven_jax.cli.main import run
from maven_jax.config import override
from maven_jax.configs import packaged_configs, packaged_studies
from maven_jax.environments.registry import complete, make_env
from maven_jax.experiments.run import load_run
from maven_jax.studies.study import load_study
from maven_jax.training.train import make_trainer
from maven_jax.validation.files import load_config, load_overrides

SMOKE = ("--config", "smoke", "--seeds", "2", "--no-tensorboard")


@pytest.mark.slow
@pytest.mark.parametrize("name", packaged_configs())
def test_every_packaged_configuration_can_be_tried(name):
    """With a latent, so that all of the sizes are read."""
    changes = load_overrides("smoke") | {"algorithm": "maven"}
    config = complete(override(load_config(name), changes))
    trainer = make_trainer(config, make_env(config))
    jax.eval_shape(trainer.init, jax.random.key(0), config.hyperparameters)


@pytest.mark.slow
def test_options_come_after_the_overrides(tmp_path, monkeypatch, capsys):
    """And are read as the types of their fields."""
    monkeypatch.chdir(tmp_path)
    options = "--training.total-env-steps 500 --network.hidden-size 5 --env.options.m 3"
    options += " --hyperparameters.learning-rate 1e-2"
    assert run(["train", "qmix", *SMOKE, *options.split()]) == 0
    assert "ignored" not in capsys.readouterr().err, "what QMIX does not read of them"
    trained = load_run("runs/qmix")
    assert trained.info["lanes"] == {"seed": [0, 1]}
    config = trained.config
    assert (config.network.hidden_size, config.network.mixer_embed_size) == (5, 4)
    assert config.training.total_env_steps == 500
    assert config.env.options["m"] == 3
    packaged = load_config("qmix").hyperparameters
    assert config.hyperparameters == packaged._replace(learning_rate=0.01)


@pytest.mark.slow
def test_a_file_of_overrides(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = "{training: {total_env_steps: 60, batch_size: 4}, network: {hidden_size: 4}}"
    (tmp_path / "mine.yaml").write_text(values)
    (tmp_path / "one.yaml").write_text("{report: curves, seeds: 1, runs: {a: {config: qmix}}}")
    words = ["--config", "mine.yaml", "--no-tensorboard"]
    assert run(["study", "one.yaml", *words, "--out", "out"]) == 0
    config = load_run("out/a").config
    assert (config.training.batch_size, config.network.hidden_size) == (4, 4)


@pytest.mark.parametrize("name", sorted({*packaged_studies()} - {"figure3", "ten_step"}))
def test_packaged_studies_can_be_tried(name):
    values = load_overrides("smoke")
    study = load_study(name).with_configs(lambda config: override(config, values))
    for each in study.runs.values():
        make_trainer(each.config, make_env(each.config))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "unknown overrides 'mine'; allowed: smoke"),
        ("[", "overrides 'mine.yaml' is not valid YAML: look at line 1"),
        ("[1]", "config is [1]; allowed: a mapping of fields to values"),
        ("{trainin: {}}", "unknown key 'trainin'; did you mean 'training'?"),
        ("{training: {batch_size: 0}}", "training.batch_size is 0; allowed: "),
    ],
)
@pytest.mark.parametrize("command", ["train", "study"])
def test_what_is_refused_of_them(text, message, command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if text is not None:
        (tmp_path / "mine.yaml").write_text(text)
    source = "mine" if text is None else "mine.yaml"
    words = [command, "qmix" if command == "train" else "ten_step", "--config", source]
    assert message in refused(capsys, *words)
    assert not (tmp_path / "runs").exists()
