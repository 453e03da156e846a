"""scikit-learn's side of benches/logistic.rs.

Reads rows [side, negative, text], one per line; prints one line of JSON for each model: name,
features, seconds from texts to weights, and [accuracy, ROC AUC] on validation and on
held-out rows. TF-IDF as in the study, with the best settings on validation rows (sublinear
counts, at least two rows, C = 2).
"""

import json
import sys
import time
import warnings

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.pipeline import FeatureUnion

warnings.filterwarnings("ignore", category=FutureWarning)

SIDES = ["train", "validation", "held out"]
texts = {side: [] for side in SIDES}
labels = {side: [] for side in SIDES}
with open(sys.argv[1], encoding="utf-8") as file:
    for line in file:
        side, negative, text = json.loads(line)
        texts[side].append(text)
        labels[side].append(negative)


def words():
    return TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)


def characters():
    return TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), min_df=5, sublinear_tf=True)


def measure(name, vectorizer, solvers):
    began = time.perf_counter()
    rows = vectorizer.fit_transform(texts["train"])
    seconds = time.perf_counter() - began
    others = [vectorizer.transform(texts[side]) for side in SIDES[1:]]
    for solver in solvers:
        began = time.perf_counter()
        model = LogisticRegression(C=2.0, solver=solver, max_iter=1000)
        model.fit(rows, labels["train"])
        fit = time.perf_counter() - began
        figures = []
        for side, features in zip(SIDES[1:], others):
            score = model.predict_proba(features)[:, 1]
            figures.append(
                [accuracy_score(labels[side], score >= 0.5), roc_auc_score(labels[side], score)]
            )
        print(
            json.dumps([f"scikit-learn, {name}, {solver}", rows.shape[1], seconds + fit, figures]),
            flush=True,
        )
        print(
            f"{name}, {solver}: {seconds:.1f} s features, {fit:.1f} s fit, "
            f"{model.n_iter_[0]} iterations",
            file=sys.stderr,
        )


measure("TF-IDF words 1-2", words(), ["lbfgs", "liblinear"])
union = FeatureUnion([("words", words()), ("characters", characters())])
measure("TF-IDF words 1-2, characters 3-5", union, ["lbfgs", "liblinear"])
