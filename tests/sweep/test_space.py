"""What is tried: spaces, grids, arms, and what applies in which of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from sweep_recipes import write_sweep_recipe

from fmicl_text.errors import InputError
from fmicl_text.losses.registry import objectives
from fmicl_text.recipe.file import dump_recipe, load_recipe
from fmicl_text.recipe.schema import Recipe
from fmicl_text.sweep.arms import arms_of
from fmicl_text.sweep.plan import Plan
from fmicl_text.sweep.space import Choices, Part, read_grid, read_space, shipped_spaces


@pytest.fixture(scope="module")
def sweep_recipe(tmp_path_factory: pytest.TempPathFactory, tiny_encoder_path: Path) -> Path:
    return write_sweep_recipe(tmp_path_factory.mktemp("sweep-data"), tiny_encoder_path)


def arms(recipe: Recipe, tmp_path: Path, text: str):
    file = tmp_path / "space.yaml"
    file.write_text(text)
    return {arm.name: arm for arm in arms_of(recipe, read_space(str(file)))}


@pytest.fixture
def recipe(sweep_recipe: Path) -> Recipe:
    return load_recipe(sweep_recipe)


def test_what_is_no_list_is_one_value(recipe: Recipe):
    values = ["a=b", "a=[1, 2]", "a=1]", "a=" + "[" * 9000, "a=&x 1, *x"]
    assert read_grid(values)[1] == values


def test_settings_are_tuned_only_where_they_apply(recipe: Recipe, tmp_path: Path):
    found = arms(
        recipe,
        tmp_path,
        "loss.objective: [infonce, fmicl, dhel]\nloss.divergence: [kl, tsallis]\nloss.kernel: [gaussian, cosine]\n"
        "loss.shift: [row, none]\nloss.kernel.sigma: {low: 0.1, high: 0.5, log: true}\n"
        "loss.temperature: {low: 0.05, high: 0.2}\nloss.balance_cosine: [0.1, 0.3]\nloss.order: [1.5, 2.0]",
    )
    kinds = [f"fmicl-{divergence}-{kernel}" for divergence in ("kl", "tsallis") for kernel in ("gaussian", "cosine")]
    assert set(found) == {"infonce-gaussian", "infonce-cosine", "dhel", *kinds, "recipe"}

    def chosen(name: str, **wanted) -> set[str]:
        return set(found[name].choose(lambda key, of: wanted.get(key.removeprefix("loss."), of.some[0])))

    assert chosen("fmicl-kl-gaussian") == {"loss.shift", "loss.sigma"}
    assert chosen("fmicl-kl-cosine", shift="none") == {"loss.shift", "loss.temperature", "loss.balance_cosine"}
    assert chosen("fmicl-tsallis-gaussian") == {"loss.shift", "loss.sigma", "loss.order"}
    assert chosen("infonce-cosine") == chosen("dhel") == {"loss.temperature"}
    assert found["recipe"].choose(None) == {} and found["recipe"].recipe(recipe, {}) == recipe


def test_what_the_recipe_gives_stays_where_it_goes_with_the_arm(recipe: Recipe, tmp_path: Path):
    given = recipe.model_copy(update={"loss": recipe.loss.model_copy(update={"mini_batch_size": 4})})
    given = Recipe.model_validate(
        given.model_dump(mode="json", exclude_unset=True)
        | {
            "loss": {
                "objective": "fmicl",
                "divergence": "tsallis",
                "order": 1.5,
                "negatives": "both",
                "mini_batch_size": 4,
            }
        }
    )
    found = arms(given, tmp_path, "loss.objective: [fmicl, infonce]\nloss.divergence: [kl, tsallis]")
    assert found["fmicl-tsallis"].recipe(given, {}).loss == given.loss
    kl = found["fmicl-kl"].recipe(given, {}).loss
    assert (kl.order, kl.negatives, kl.mini_batch_size) == (None, "both", 4)
    infonce = found["infonce"].recipe(given, {}).loss
    assert infonce.mini_batch_size == 4 and "loss.temperature" in found["infonce"].tuned


def test_infonce_is_tuned_in_any_case_and_as_all_else_is(recipe: Recipe):
    grid, rest = read_grid(["loss.divergence=kl,js", "train.learning_rate=1e-4,1e-3", "name=other", "seeds=[1,2]"])
    assert rest == ["name=other", "seeds=[1,2]"]
    infonce, *others = arms_of(recipe, [grid])
    assert [arm.name for arm in others] == ["fmicl-kl", "fmicl-js", "recipe"]
    assert list(infonce.tuned) == ["train.learning_rate", "loss.temperature"]
    assert others[0].grid(2) == [{"train.learning_rate": 1e-4}, {"train.learning_rate": 1e-3}]
    assert others[0].grid(1) is None and infonce.grid(100) is None


@pytest.mark.parametrize("name", shipped_spaces())
def test_shipped_spaces_tune_infonce_and_each_divergence_of_the_paper(recipe: Recipe, name: str):
    found = arms_of(recipe, read_space(name))
    assert {"infonce", *(f"fmicl-{d}-gaussian" for d in "kl js pearson sh tsallis vlc".split())} <= {
        a.name for a in found
    }
    for arm in found:
        assert arm.recipe(recipe, arm.default(recipe)).loss.objective in objectives()
        assert arm.name == "recipe" or arm.default(recipe), f"no default of {arm.name} is in the space"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("loss.divergance: [kl]", r'space.yaml:1: loss.divergance: unknown key \(did you mean "divergence"'),
        ("\nloss.divergence: [kl, jss]", r'space.yaml:2: loss.divergence: .*did you mean "js"'),
        ("loss.objective: [infonse]", 'no objective "infonse" .did you mean "infonce"'),
        ("loss.sigma: {low: -1, high: 2}", "space.yaml:1: loss.sigma: must be greater than 0"),
        ("loss.sigma: {low: 2, high: 1}", "high: must be above low, 2"),
        ("loss.sigma: {low: 0, high: 1, log: true}", "low: must be above 0 on a logarithmic scale"),
        ("loss.sigma: {low: 0.1, hihg: 1}", 'hihg: unknown key .did you mean "high"'),
        ("loss.divergence: [kl, kl]", "the same value twice"),
        ("loss.sigma: [[1]]", "must be a list of texts and numbers"),
        ("train.learning_rat: [1e-4]", r'train.learning_rat: unknown key \(did you mean "learning_rate"'),
        ("train.learning_rate: [fast]", "learning_rate: must be a number"),
        ("loss: {divergence: [kl]}", "must be a key of a section, such as loss.sigma"),
        ("loss.order: [2.0]\nloss.divergence: [kl, js]", "loss.order: belongs to divergence: tsallis"),
        (
            "loss.sigma: [0.1]\nloss.kernel.sigma: [0.2]",
            "yaml:2: loss.kernel.sigma: is loss.sigma, which is there al.*:1",
        ),
        (
            "p: {loss.divergence: kl}\nq:\n  loss.divergence: [js, kl]",
            "space.yaml:3: fmicl-kl: another part has it too",
        ),
        ("loss.divergence: [kl, null]", "loss.divergence: must be a list of names"),
        ("loss.objective: dhel\nloss.divergence: kl", "space.yaml:2: loss.divergence: dhel has no divergence"),
        (
            "loss.shift: row\nloss.balance_cosine: [0.1, 0.2]",
            "space.yaml:2: loss.balance_cosine: balances the terms by its",
        ),
        ("loss.balance_cosine: 0.1\nloss.alpha: 2.0", "space.yaml:2: loss.alpha: is another way to give alpha"),
        ("evaluate.every_steps: [1, 2]", "space.yaml:1: evaluate.every_steps: cannot be varied"),
        ("data.heldout: [0.1, 0.2]", "space.yaml:1: data.heldout: cannot be varied, as trials are compared by it"),
        ("p:\n  loss.shift: row\nq:\n  loss.divergence: kl\n  loss.shift: raw", "space.yaml:5: loss.shift: must be"),
    ],
)
def test_what_is_wrong_with_a_space_is_said_with_its_line(recipe: Recipe, tmp_path: Path, text: str, message: str):
    with pytest.raises(InputError, match=message):
        arms(recipe, tmp_path, text)


def test_a_list_of_one_is_an_override():
    grid, rest = read_grid(["loss.divergence=[kl, js]", "loss.sigma=0.1, 0.2"])
    assert grid.keys == {"loss.sigma": Choices((0.1, 0.2))} and rest == ["loss.divergence=[kl, js]"]


def test_a_key_is_given_once_and_is_no_section(recipe: Recipe):
    first = "--set loss.sigma=0.1,0.2"
    with pytest.raises(InputError, match=rf"loss.kernel.sigma: is there already, at {first}; give all its values in"):
        read_grid(["loss.sigma=0.1,0.2", "loss.kernel.sigma=0.3,0.4"])
    grid, _ = read_grid(["loss=a,b"])
    with pytest.raises(InputError, match=r"--set loss=a,b: loss: must be a key of a section, such as loss\.sigma"):
        arms_of(recipe, [grid])


def test_the_default_is_known_by_its_recipe(recipe: Recipe, tmp_path: Path):
    """Of a grid that is without it, the first trial is another one."""
    plan = Plan(recipe, [*arms(recipe, tmp_path, "loss.divergence: kl\nloss.sigma: [0.3, 0.2]").values()], tmp_path, "")
    assert plan.planned(plan.arm("fmicl-kl"), 2)[0] == {"loss.sigma": 0.3}
    assert [plan.is_default("fmicl-kl", {"loss.sigma": sigma}) for sigma in (0.3, "adaptive")] == [False, True]
    assert [plan.is_default("infonce", {"loss.temperature": value}) for value in (0.06, 0.05)] == [False, True]
    assert plan.is_default("recipe", {})


@pytest.mark.parametrize("name", shipped_spaces())
def test_the_first_trial_of_a_shipped_space_is_the_default(recipe: Recipe, tmp_path: Path, name: str):
    """Also where it is no value of a range, as ``sigma: adaptive``: then it is left out."""
    plan = Plan(recipe, arms_of(recipe, read_space(name)), tmp_path, "")
    for arm in plan.arms:
        assert plan.is_default(arm.name, plan.planned(arm, 6)[0]), arm.name
    assert any("loss.sigma" in arm.tuned and "loss.sigma" not in plan.planned(arm, 6)[0] for arm in plan.arms)


@pytest.mark.parametrize("widths", ["[0.2, adaptive]", "[adaptive, 0.2]"])
def test_a_value_is_tried_only_where_it_applies(recipe: Recipe, tmp_path: Path, widths: str):
    text = f"loss.divergence: kl\nloss.shift: [row, none]\nloss.sigma: {widths}"
    grid = arms(recipe, tmp_path, text)["fmicl-kl"].grid(9)
    assert {(settings["loss.shift"], settings["loss.sigma"]) for settings in grid} == {
        ("row", 0.2),
        ("row", "adaptive"),
        ("none", 0.2),
    }


def test_defaults_that_a_resolved_recipe_names_do_not_bind_a_sweep(recipe: Recipe, tmp_path: Path):
    """``sigma: adaptive`` needs the shift that is varied; a number that is given stays."""
    file = tmp_path / "resolved.yaml"
    file.write_text(dump_recipe(recipe))
    assert "sigma: adaptive" in file.read_text()
    resolved = load_recipe(file)
    text = "loss.divergence: kl\nloss.shift: [row, none]"
    widths = [
        arms(base, tmp_path, text)["fmicl-kl"].recipe(base, {"loss.shift": "none"}).loss.sigma
        for base in (resolved, load_recipe(file, ["loss.sigma=0.3"]))
    ]
    assert widths == ["measured", 0.3]


@pytest.mark.parametrize("given", [{}, {"trials": 8}, {"budget": 1e6}], ids=str)
def test_infonce_has_no_more_trials_than_the_largest_grid(recipe: Recipe, tmp_path: Path, given: dict):
    """Unless there is nothing else."""

    def number(text: str) -> int:
        plan = Plan(recipe, [*arms(recipe, tmp_path, text).values()], tmp_path, "", **given)
        return plan.affordable(1.0) if plan.number() is None else plan.number()

    assert number("loss.divergence: [kl, js]\nloss.sigma: [0.1, 0.2, 0.3]") == 3
    assert number("loss.objective: [infonce]\nloss.temperature: [0.1, 0.2]") == 2
    assert number("loss.objective: [infonce]") >= 8
    assert number("loss.divergence: [kl]\nloss.sigma: {low: 0.1, high: 0.7}") >= 8


def test_the_order_in_which_keys_are_written_does_not_matter(recipe: Recipe, tmp_path: Path):
    """The shift decides whether there is a balance, wherever it stands."""
    keys = ["loss.balance_cosine: [0.1, 0.3]", "loss.shift: [row, none]", "loss.sigma: [0.2]"]
    shift = {"loss.shift": "row", "loss.sigma": 0.2}
    balanced = [{"loss.shift": "none", "loss.balance_cosine": balance, "loss.sigma": 0.2} for balance in (0.1, 0.3)]
    for written in (keys, keys[::-1], [keys[1], keys[0], keys[2]]):
        grid = arms(recipe, tmp_path, "\n".join(["loss.divergence: js", *written]))["fmicl-js"].grid(10)
        assert len(grid) == 3 and all(settings in grid for settings in (shift, *balanced))


def test_infonce_varies_what_every_objective_has(recipe: Recipe, tmp_path: Path):
    found = arms(recipe, tmp_path, "loss.divergence: [kl]\nloss.queue: [16, 32]\nloss.sigma: [0.1, 0.2]")
    assert set(found["infonce"].tuned) == {"loss.queue", "loss.temperature"}


def test_what_is_given_for_all_parts_is_needed_in_one(recipe: Recipe):
    grid, _ = read_grid(["loss.sigma=0.1,0.2"])
    parts = [Part({**part.keys, **grid.keys}, {**part.places, **grid.places}) for part in read_space("text")]
    found = {arm.name: arm for arm in arms_of(recipe, parts)}
    assert found["fmicl-kl-gaussian"].tuned["loss.sigma"] == Choices((0.1, 0.2))


def test_rows_that_are_held_out_by_a_share_stay_the_same(recipe: Recipe):
    grid, _ = read_grid(["data.split=train,test"])
    document = recipe.model_dump(mode="json", exclude_unset=True)
    drawn = Recipe.model_validate(document | {"data": document["data"] | {"heldout": 0.5}})
    with pytest.raises(InputError, match=r"data\.split: cannot be varied"):
        arms_of(drawn, [grid])
