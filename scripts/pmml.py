#!/usr/bin/env python3
"""pmml.py FOLDER SARDONYX [ONLY]: pipelines of scikit-learn as PMML, converted by Sardonyx, against the references (see scripts/pmml.sh).

Every model is converted, run by the Sardonyx reference and by onnxruntime, and each output is compared with what JPMML's evaluator says:
numbers to 1e-6, labels and missing values exactly. Where PMML says what scikit-learn says (`SAME`), the results are compared with scikit-learn's too.
"""

import pathlib
import subprocess
import sys
import warnings

warnings.filterwarnings("ignore")

import numpy as np
import onnxruntime
import pandas
from jpmml_evaluator import make_evaluator
from sklearn import datasets
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    AdaBoostRegressor,
    BaggingClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import ElasticNet, LinearRegression, LogisticRegression, PoissonRegressor, Ridge
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    Binarizer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    RobustScaler,
    StandardScaler,
)
from sklearn.svm import SVC, SVR, LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from sklearn2pmml import make_pmml_pipeline, sklearn2pmml
from sklearn_pmml_model.auto_detect import auto_detect_estimator

TOLERANCE = 1e-6
# PMML gives no score to a row with a missing value here, while scikit-learn gives one; and a bin's edge is rounded otherwise.
NOT_SAME = {"tree_missing", "forest_missing", "bins_onehot", "isolation"}
# What sklearn-pmml-model reads: models without preprocessing.
READ = {"tree_iris", "tree_wine", "tree_diabetes", "forest_iris", "forest_digits", "extra_cancer", "bagging_iris", "boosting_cancer", "boosting_iris",
        "boosting_diabetes", "hist_cancer", "hist_wine", "linear_diabetes", "logistic_iris"}


def tables():
    """The data sets, as tables with the types of their columns; targets of texts for iris."""
    iris, wine, cancer, diabetes, digits = (
        load(as_frame=True)
        for load in (datasets.load_iris, datasets.load_wine, datasets.load_breast_cancer, datasets.load_diabetes, datasets.load_digits)
    )
    names = iris.target.map({at: str(name) for at, name in enumerate(iris.target_names)}).astype(object)
    holes = iris.data.mask(np.random.default_rng(0).random(iris.data.shape) < 0.15)
    dice, n = np.random.default_rng(3), 400
    mixed = pandas.DataFrame({
        "color": dice.choice(["red", "green", "blue"], n).astype(object),
        "size": dice.choice(["S", "M", "L", "XL"], n).astype(object),
        "w": dice.normal(size=n),
        "h": dice.normal(size=n) * 3 + 1,
    })
    score = (mixed.color == "red") * 1.5 + mixed.w + (mixed["size"] == "XL") - mixed.h * 0.3 + dice.normal(size=n) * 0.3
    answer = (score > 0).map({True: "yes", False: "no"}).astype(object)
    return {
        "iris": (iris.data, names),
        "wine": (wine.data, wine.target),
        "cancer": (cancer.data, cancer.target),
        "diabetes": (diabetes.data, diabetes.target),
        "digits": (digits.data, digits.target),
        "holes": (holes, names),
        "mixed": (mixed, answer),
        "three": (diabetes.data[["bmi", "bp", "s5"]], diabetes.target),
    }


def scaled(*steps):
    return make_pipeline(StandardScaler(), *steps)


def encoded(model):
    columns = [("c", OneHotEncoder(), ["color", "size"]), ("n", StandardScaler(), ["w", "h"])]
    return make_pipeline(ColumnTransformer(columns), model)


def pipelines():
    """Each with the name of its table."""
    seed = {"random_state": 0}
    ordinal = ColumnTransformer([("c", OrdinalEncoder(), ["color", "size"])], remainder="passthrough")
    voters = [("a", DecisionTreeClassifier(max_depth=2, **seed)), ("b", LogisticRegression(max_iter=1000))]
    third = [("c", DecisionTreeClassifier(max_depth=1, **seed))]
    return {
        "tree_iris": ("iris", DecisionTreeClassifier(**seed)),
        "tree_wine": ("wine", DecisionTreeClassifier(**seed)),
        "tree_diabetes": ("diabetes", DecisionTreeRegressor(max_depth=6, **seed)),
        "tree_missing": ("holes", DecisionTreeClassifier(**seed)),
        "forest_iris": ("iris", RandomForestClassifier(30, **seed)),
        "forest_digits": ("digits", RandomForestClassifier(20, **seed)),
        "forest_diabetes": ("diabetes", RandomForestRegressor(20, **seed)),
        "forest_missing": ("holes", RandomForestClassifier(10, **seed)),
        "extra_cancer": ("cancer", ExtraTreesClassifier(20, **seed)),
        "bagging_iris": ("iris", BaggingClassifier(n_estimators=8, **seed)),
        "adaboost_diabetes": ("diabetes", AdaBoostRegressor(n_estimators=10, **seed)),
        "isolation": ("iris", IsolationForest(n_estimators=10, **seed)),
        "boosting_cancer": ("cancer", GradientBoostingClassifier(n_estimators=30, **seed)),
        "boosting_iris": ("iris", GradientBoostingClassifier(n_estimators=20, **seed)),
        "boosting_diabetes": ("diabetes", GradientBoostingRegressor(n_estimators=30, **seed)),
        "hist_cancer": ("cancer", HistGradientBoostingClassifier(max_iter=30, **seed)),
        "hist_wine": ("wine", HistGradientBoostingClassifier(max_iter=20, **seed)),
        "hist_missing": ("holes", HistGradientBoostingClassifier(max_iter=20, **seed)),
        "hist_diabetes": ("diabetes", HistGradientBoostingRegressor(max_iter=30, **seed)),
        "vote_soft": ("iris", VotingClassifier(voters, voting="soft", weights=[1, 2])),
        "vote_hard": ("iris", VotingClassifier(voters + third, voting="hard")),
        "linear_diabetes": ("diabetes", LinearRegression()),
        "elastic_diabetes": ("diabetes", make_pipeline(MinMaxScaler(), ElasticNet(alpha=0.1))),
        "polynomial": ("three", make_pipeline(PolynomialFeatures(2), Ridge())),
        "poisson_diabetes": ("diabetes", PoissonRegressor()),
        "logistic_iris": ("iris", LogisticRegression(max_iter=1000)),
        "logistic_cancer": ("cancer", scaled(LogisticRegression())),
        "logistic_wine": ("wine", make_pipeline(RobustScaler(), MaxAbsScaler(), LogisticRegression(max_iter=500))),
        "linear_svc": ("iris", scaled(LinearSVC())),
        "svc_iris": ("iris", scaled(SVC())),
        "svc_wine": ("wine", scaled(SVC(kernel="poly", degree=2))),
        "svc_cancer": ("cancer", scaled(SVC(kernel="linear"))),
        "svr_diabetes": ("diabetes", scaled(SVR(C=10))),
        "kmeans_iris": ("iris", scaled(KMeans(4, n_init=3, **seed))),
        "network_iris": ("iris", scaled(MLPClassifier(hidden_layer_sizes=(8, 6), max_iter=400, **seed))),
        "network_cancer": ("cancer", scaled(MLPClassifier(hidden_layer_sizes=(8,), activation="tanh", max_iter=300, **seed))),
        "network_diabetes": ("diabetes", scaled(MLPRegressor(hidden_layer_sizes=(8,), activation="logistic", max_iter=500, **seed))),
        "texts_logistic": ("mixed", encoded(LogisticRegression())),
        "texts_tree": ("mixed", encoded(DecisionTreeClassifier(**seed))),
        "texts_forest": ("mixed", encoded(RandomForestClassifier(10, **seed))),
        "texts_boosting": ("mixed", make_pipeline(ordinal, GradientBoostingClassifier(n_estimators=10, **seed))),
        "imputed_mean": ("holes", make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression())),
        "imputed_median": ("holes", make_pipeline(SimpleImputer(strategy="median", add_indicator=True), DecisionTreeClassifier(**seed))),
        "bins_ordinal": ("iris", make_pipeline(KBinsDiscretizer(4, encode="ordinal", strategy="quantile"), LogisticRegression(max_iter=1000))),
        "bins_onehot": ("iris", make_pipeline(KBinsDiscretizer(4, encode="onehot", strategy="uniform"), LogisticRegression(max_iter=1000))),
        "binarized": ("iris", make_pipeline(Binarizer(threshold=1.4), LogisticRegression())),
    }


def feeds(inputs, x):
    types = {"tensor(double)": np.float64, "tensor(float)": np.float32, "tensor(int64)": np.int64}
    made = {}
    for each in inputs:
        values = x[each.name].to_numpy()
        if each.type == "tensor(string)":
            made[each.name] = np.array(["" if value != value else str(value) for value in values]).reshape(-1, 1)
        else:
            made[each.name] = values.astype(types[each.type]).reshape(-1, 1)
    return made


def texts(values):
    return ["" if value is None or value != value else str(value) for value in values]


def differs(found, wanted, what):
    """A sentence, if two columns differ."""
    if found.dtype.kind == "f":
        wanted = np.array([np.nan if value is None else value for value in wanted], np.float64)
        if (np.isnan(found) != np.isnan(wanted)).any():
            return f"{what}: other values are missing"
        error = np.nanmax(np.abs(found - wanted) / np.maximum(1, np.abs(wanted)), initial=0)
        return f"{what}: differs by {error:.2g}" if error > TOLERANCE else None
    if texts(found) != texts(wanted):
        return f"{what}: {sum(a != b for a, b in zip(texts(found), texts(wanted)))} labels differ"
    return None


def against_sklearn(outputs, model, x, classes):
    """What differs from scikit-learn's own answers."""
    if "affinity(0)" in outputs:
        yield differs(outputs["label"][:, 0], model.predict(x), "scikit-learn")
        return
    main = outputs.get("label", outputs.get("prediction"))
    yield differs(main[:, 0], np.asarray(model.predict(x)), "scikit-learn")
    if "probabilities" in outputs and hasattr(model, "predict_proba"):
        wanted = model.predict_proba(x)
        for at, name in enumerate(model.classes_):
            yield differs(outputs["probabilities"][:, classes.index(str(name))], wanted[:, at], f"scikit-learn, {name}")


def compared(folder, sardonyx, name, table, model):
    """Everything that is wrong with one model."""
    x, y = table
    if name == "isolation" or name.startswith("kmeans"):
        y = None
    model.fit(x, y)
    pmml, onnx = folder / f"{name}.pmml", folder / f"{name}.onnx"
    sklearn2pmml(make_pmml_pipeline(model, active_fields=list(x.columns), target_fields=None if y is None else ["target"]), str(pmml))
    subprocess.run([sardonyx, "convert", pmml, "-o", onnx], check=True, stdout=subprocess.DEVNULL)
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    given = feeds(session.get_inputs(), x)
    objects = {key: value.astype(object) if value.dtype.kind == "U" else value for key, value in given.items()}
    of_ort = dict(zip([each.name for each in session.get_outputs()], session.run(None, objects)))
    np.savez(folder / f"{name}.in.npz", **given)
    files = ["--inputs", folder / f"{name}.in.npz", "--outputs", folder / f"{name}.out.npz"]
    subprocess.run([sardonyx, "run", onnx, "--device", "cpu", *files], check=True, stdout=subprocess.DEVNULL)
    own = dict(np.load(folder / f"{name}.out.npz"))
    classes = session.get_modelmeta().custom_metadata_map.get("classes", "").split("\n")
    reference = make_evaluator(str(pmml)).verify().evaluateAll(x)
    compared = 0
    for runner, outputs in (("Sardonyx", own), ("onnxruntime", of_ort)):
        for column in reference.columns:
            # JPMML also gives what is no final result, and the target under its own name.
            key = column if column in outputs else "label" if "label" in outputs else "prediction"
            if key == column or column == "target":
                compared += 1
                yield differs(outputs[key][:, 0], reference[column].to_numpy(), f"{runner}, JPMML's {column}")
        if name not in NOT_SAME:
            yield from against_sklearn(outputs, model, x, classes)
    if not compared:
        yield "nothing was compared"
    if name in READ:
        found = own.get("label", own.get("prediction"))[:, 0]
        yield differs(found, np.asarray(auto_detect_estimator(str(pmml)).predict(x)), "sklearn-pmml-model")


def main():
    folder, sardonyx = pathlib.Path(sys.argv[1]), sys.argv[2]
    only = sys.argv[3] if len(sys.argv) > 3 else ""
    data, bad, good = tables(), 0, 0
    for name, (table, model) in pipelines().items():
        if only in name:
            wrong = [each for each in compared(folder, sardonyx, name, data[table], model) if each]
            print(f"{name}: {'; '.join(wrong) or 'ok'}", flush=True)
            bad, good = bad + bool(wrong), good + (not wrong)
    print(f"{good} models agree, {bad} do not")
    sys.exit(bad > 0 or good == 0)


if __name__ == "__main__":
    main()
