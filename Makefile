# make demo: from a fresh clone to a rescored table.  make test: everything that is checked.
# make docs: docs/ as pages, build/docs/index.html; a warning is an error.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := build/demo
DEMO_OPTIONS := --max-updates 300 --validate-every 100

.PHONY: demo test quick docs clean

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev,report]'
	$(BIN)/pip install --quiet -c constraints.txt -e '.[lm]' || \
	    echo 'no kenlm (it needs a C++ compiler): its tests skip'
	touch $@

demo: $(VENV)/installed
	mkdir -p $(DEMO)
	$(BIN)/phrase-scorer train data/model/phrase-table.gz --model $(DEMO)/rnn --overwrite $(DEMO_OPTIONS)
	$(BIN)/phrase-scorer rescore data/model/phrase-table.gz $(DEMO)/phrase-table.rnn.gz \
	    --model $(DEMO)/rnn --moses-ini data/moses.ini --moses-ini-out $(DEMO)/moses.rnn.ini \
	    --log $(DEMO)/rescore.log
	@echo; echo "before:"; gzip -dc data/model/phrase-table.gz | sed -n '1000,1009p'
	@echo; echo "after:"; gzip -dc $(DEMO)/phrase-table.rnn.gz | sed -n '1000,1009p'
	@echo; grep -e '^PhraseDictionaryMemory' -e '^TranslationModel0' $(DEMO)/moses.rnn.ini
	$(BIN)/phrase-scorer report $(DEMO)/phrase-table.rnn.gz --model $(DEMO)/rnn \
	    --moses-ini $(DEMO)/moses.rnn.ini --log $(DEMO)/rescore.log --output $(DEMO)/report.html
	@echo; echo "What the network learned: open $(DEMO)/report.html in a browser."
	@echo; echo "Next, where Moses is on the PATH: tune the new weight and translate with it."
	@echo "  $(BIN)/phrase-scorer tune --moses-ini $(DEMO)/moses.rnn.ini --source data/corpus/tune.en \\"
	@echo "      --reference data/corpus/tune.fr --working-dir $(DEMO)/tuned --max-iterations 2"
	@echo "  $(BIN)/phrase-scorer decode --moses-ini $(DEMO)/tuned/moses.ini --input data/corpus/test.en \\"
	@echo "      --output $(DEMO)/test.out"
	@echo "  $(BIN)/phrase-scorer evaluate --reference data/corpus/test.fr rnn=$(DEMO)/test.out"

test: $(VENV)/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest -n auto

quick: $(VENV)/installed
	$(BIN)/pytest -n auto -m "not slow and not moses"

$(VENV)/docs-installed: $(VENV)/installed
	$(BIN)/pip install --quiet -c constraints.txt -e '.[docs]'
	touch $@

docs: $(VENV)/docs-installed
	$(BIN)/sphinx-build --quiet --fresh-env --fail-on-warning --keep-going docs build/docs

clean:
	rm -rf $(VENV) build
