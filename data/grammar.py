"""A grammar of small English-French sentences with agreement, inflection and elision.

Every sentence is drawn from typed slots, so that it means something: people read books and drink
coffee, cats sleep and doors close. `sentences(seed)` yields distinct pairs without end.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

VOWELS = "aeiouyâàéèêëîïôœù"
SILENT_H = ("homme", "hôtel", "histoire", "horloge", "huile")
PERSONS = ("I", "you", "he", "she", "we", "they")
FRENCH_PERSONS = {"I": "je", "you": "vous", "he": "il", "she": "elle", "we": "nous", "they": "ils"}
ENDINGS = {  # of verbs in -er
    "present": {"I": "e", "you": "ez", "he": "e", "she": "e", "we": "ons", "they": "ent"},
    "future": {"I": "ai", "you": "ez", "he": "a", "she": "a", "we": "ons", "they": "ont"},
    "imperfect": {
        "I": "ais",
        "you": "iez",
        "he": "ait",
        "she": "ait",
        "we": "ions",
        "they": "aient",
    },
}
HAVE = {"I": "ai", "you": "avez", "he": "a", "she": "a", "we": "avons", "they": "ont"}
BE = {"I": "suis", "you": "êtes", "he": "est", "she": "est", "we": "sommes", "they": "sont"}
WERE = {
    "I": "étais",
    "you": "étiez",
    "he": "était",
    "she": "était",
    "we": "étions",
    "they": "étaient",
}
ENGLISH_BE = {"I": "am", "you": "are", "he": "is", "she": "is", "we": "are", "they": "are"}


@dataclass(frozen=True)
class Noun:
    """A noun in both languages; `kind` says what it can do and what can be done with it."""

    english: str
    french: str
    gender: str
    kind: str
    english_plural: str = ""
    french_plural: str = ""

    def plural(self) -> tuple[str, str]:
        """(English, French) plural."""
        english = self.english_plural or regular_plural(self.english)
        return english, self.french_plural or self.french + "s"


@dataclass(frozen=True)
class Verb:
    """A transitive verb in -er with what its object may be."""

    english: str
    past: str
    participle: str
    french: str  # the infinitive
    objects: tuple[str, ...]
    stem: str = ""  # of the forms with a mute ending, where it differs

    def third(self) -> str:
        """English third person singular."""
        verb, blank, particle = self.english.partition(" ")
        return regular_plural(verb) + blank + particle

    def conjugated(self, tense: str, person: str) -> str:
        """French, without the pronoun."""
        root = self.french.removesuffix("er")
        if tense == "past":
            return f"{HAVE[person]} {root}é"
        ending = ENDINGS[tense][person]
        if tense == "future":
            return (self.stem or root) + "er" + ending
        if tense == "present" and self.stem and person not in ("we", "you"):
            return self.stem + ending
        if root.endswith("g") and ending[0] in "ao":
            root += "e"
        if root.endswith("c") and ending[0] in "ao":
            root = root[:-1] + "ç"
        return root + ending


@dataclass(frozen=True)
class Adjective:
    """An adjective with its feminine; plurals add an s unless the masculine ends in s or x."""

    english: str
    french: str
    feminine: str
    kinds: tuple[str, ...]
    before: bool = False

    def agreed(self, gender: str, plural: bool) -> str:
        """The form for a gender and number."""
        form = self.feminine if gender == "f" else self.french
        return form if not plural or form.endswith(("s", "x")) else form + "s"


# English / French / gender / kind / irregular English plural / irregular French plural
NOUN_TABLE = """
teacher/professeur/m/person student/étudiant/m/person neighbour/voisin/m/person
doctor/médecin/m/person nurse/infirmière/f/person farmer/fermier/m/person
woman/femme/f/person/women man/homme/m/person/men girl/fille/f/person boy/garçon/m/person
friend/ami/m/person sister/sœur/f/person brother/frère/m/person aunt/tante/f/person
uncle/oncle/m/person child/enfant/m/person/children singer/chanteuse/f/person
baker/boulanger/m/person gardener/jardinier/m/person dancer/danseuse/f/person
cook/cuisinier/m/person tourist/touriste/m/person worker/ouvrier/m/person cat/chat/m/animal
dog/chien/m/animal horse/cheval/m/animal//chevaux cow/vache/f/animal bird/oiseau/m/animal//oiseaux
rabbit/lapin/m/animal goat/chèvre/f/animal fox/renard/m/animal donkey/âne/m/animal
hen/poule/f/animal book/livre/m/text letter/lettre/f/text newspaper/journal/m/text//journaux
story/histoire/f/text poem/poème/m/text page/page/f/text message/message/m/text novel/roman/m/text
door/porte/f/thing window/fenêtre/f/thing table/table/f/thing chair/chaise/f/thing
lamp/lampe/f/thing box/boîte/f/thing key/clé/f/thing car/voiture/f/thing bicycle/vélo/m/thing
boat/bateau/m/thing//bateaux clock/horloge/f/thing suitcase/valise/f/thing
picture/tableau/m/thing//tableaux umbrella/parapluie/m/thing hat/chapeau/m/thing//chapeaux
coat/manteau/m/thing//manteaux shirt/chemise/f/thing knife/couteau/m/thing/knives/couteaux
tree/arbre/m/thing flower/fleur/f/thing bag/sac/m/thing bottle/bouteille/f/thing
plate/assiette/f/thing apple/pomme/f/food cake/gâteau/m/food//gâteaux soup/soupe/f/food
cheese/fromage/m/food egg/œuf/m/food orange/orange/f/food
potato/pomme-de-terre/f/food//pommes-de-terre fish/poisson/m/food/fish pear/poire/f/food
biscuit/biscuit/m/food garden/jardin/m/place house/maison/f/place school/école/f/place
church/église/f/place market/marché/m/place station/gare/f/place park/parc/m/place
hotel/hôtel/m/place museum/musée/m/place village/village/m/place library/bibliothèque/f/place
kitchen/cuisine/f/place forest/forêt/f/place bridge/pont/m/place factory/usine/f/place
castle/château/m/place//châteaux hospital/hôpital/m/place//hôpitaux
"""
NOUNS = [Noun(*fields.split("/")) for fields in NOUN_TABLE.split()]

VERBS = [
    Verb("carry", "carried", "carried", "porter", ("thing", "text")),
    Verb("look for", "looked for", "looked for", "chercher", ("thing", "text", "person", "animal")),
    Verb("find", "found", "found", "trouver", ("thing", "text", "animal")),
    Verb("eat", "ate", "eaten", "manger", ("food",)),
    Verb("prepare", "prepared", "prepared", "préparer", ("food",)),
    Verb("cut", "cut", "cut", "couper", ("food",)),
    Verb("watch", "watched", "watched", "regarder", ("animal", "person", "thing")),
    Verb("like", "liked", "liked", "aimer", ("animal", "text", "food", "person")),
    Verb("buy", "bought", "bought", "acheter", ("thing", "text", "food"), "achèt"),
    Verb("bring", "brought", "brought", "apporter", ("thing", "text", "food")),
    Verb("forget", "forgot", "forgotten", "oublier", ("thing", "text")),
    Verb("repair", "repaired", "repaired", "réparer", ("thing",)),
    Verb("close", "closed", "closed", "fermer", ("place",)),
    Verb("visit", "visited", "visited", "visiter", ("place",)),
    Verb("leave", "left", "left", "quitter", ("place",)),
    Verb("cross", "crossed", "crossed", "traverser", ("place",)),
    Verb("show", "showed", "shown", "montrer", ("place", "thing", "text", "animal")),
    Verb("draw", "drew", "drawn", "dessiner", ("animal", "place", "thing")),
    Verb("help", "helped", "helped", "aider", ("person",)),
    Verb("listen to", "listened to", "listened to", "écouter", ("person",)),
    Verb("invite", "invited", "invited", "inviter", ("person",)),
    Verb("photograph", "photographed", "photographed", "photographier", ("place", "animal")),
    Verb("keep", "kept", "kept", "garder", ("thing", "text", "animal")),
    Verb("give", "gave", "given", "donner", ("thing", "text", "food")),
]

ANYTHING = ("person", "animal", "text", "thing", "food", "place")
ADJECTIVES = [
    Adjective("small", "petit", "petite", ANYTHING, before=True),
    Adjective("big", "grand", "grande", ("person", "animal", "thing", "place"), before=True),
    Adjective("pretty", "joli", "jolie", ("thing", "place", "text"), before=True),
    Adjective("young", "jeune", "jeune", ("person", "animal"), before=True),
    Adjective("good", "bon", "bonne", ("food", "text"), before=True),
    Adjective("bad", "mauvais", "mauvaise", ("food", "text"), before=True),
    Adjective("red", "rouge", "rouge", ("thing",)),
    Adjective("blue", "bleu", "bleue", ("thing",)),
    Adjective("green", "vert", "verte", ("thing",)),
    Adjective("white", "blanc", "blanche", ("thing", "animal")),
    Adjective("black", "noir", "noire", ("thing", "animal")),
    Adjective("tired", "fatigué", "fatiguée", ("person", "animal")),
    Adjective("happy", "content", "contente", ("person",)),
    Adjective("patient", "patient", "patiente", ("person", "animal")),
    Adjective("interesting", "intéressant", "intéressante", ("text", "place")),
    Adjective("expensive", "cher", "chère", ("thing", "food")),
    Adjective("cold", "froid", "froide", ("food", "place")),
    Adjective("delicious", "délicieux", "délicieuse", ("food",)),
    Adjective("quiet", "calme", "calme", ("place", "person", "animal")),
    Adjective("famous", "célèbre", "célèbre", ("place", "text", "person")),
    Adjective("heavy", "lourd", "lourde", ("thing",)),
    Adjective("broken", "cassé", "cassée", ("thing",)),
    Adjective("sad", "triste", "triste", ("person", "text")),
]

TIMES = {
    "present": [
        ("every day", "tous les jours"),
        ("in the morning", "le matin"),
        ("on Sundays", "le dimanche"),
        ("very often", "très souvent"),
        ("for the first time", "pour la première fois"),
    ],
    "past": [
        ("yesterday", "hier"),
        ("last week", "la semaine dernière"),
        ("two days ago", "il y a deux jours"),
        ("this morning", "ce matin"),
        ("for the first time", "pour la première fois"),
        ("at the end of the day", "à la fin de la journée"),
    ],
    "future": [
        ("tomorrow", "demain"),
        ("next year", "l'année prochaine"),
        ("tonight", "ce soir"),
        ("in an hour", "dans une heure"),
        ("before the end of the week", "avant la fin de la semaine"),
    ],
}
PREPOSITIONS = [
    ("in front of", "devant"),
    ("behind", "derrière"),
    ("near", "près de"),
    ("next to", "à côté de"),
    ("far from", "loin de"),
]
POSSESSIVES = {"my": ("mon", "ma", "mes"), "your": ("votre", "votre", "vos"),
               "our": ("notre", "notre", "nos"), "their": ("leur", "leur", "leurs")}  # fmt: skip
DETERMINERS = ("definite", "definite", "indefinite", "this", "possessive")
PAIR = tuple[str, str]


def regular_plural(noun: str) -> str:
    """English plural of a noun by rule, which is also the third person of a verb."""
    if noun.endswith(("s", "x", "ch", "sh", "ato")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeou":
        return noun[:-1] + "ies"
    return noun + "s"


def elides(word: str) -> bool:
    """Whether le, de, je … lose their vowel before a French word."""
    return word[0].lower() in VOWELS or word.startswith(SILENT_H)


def before(short: str, word: str) -> str:
    """A word like "je" or "de" before another: elided where it must be."""
    return f"{short[:-1]}'{word}" if elides(word) else f"{short} {word}"


def with_preposition(preposition: str, phrase: str) -> str:
    """A preposition that may end in "de" before a noun phrase: du, des, d'."""
    if not preposition.endswith("de"):
        return f"{preposition} {phrase}"
    head = preposition.removesuffix("de")
    if phrase.startswith("le "):
        return f"{head}du {phrase[3:]}"
    if phrase.startswith("les "):
        return f"{head}des {phrase[4:]}"
    if phrase.startswith(("de ", "d'")):
        return head + phrase
    if phrase.startswith("des "):  # de + des = de
        return head + before("de", phrase[4:])
    return head + before("de", phrase)


class Grammar:
    """Draws sentences with one source of random numbers."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)

    def noun_phrase(
        self, kinds: tuple[str, ...], determiners: tuple[str, ...] = DETERMINERS
    ) -> tuple[PAIR, Noun, bool]:
        """((English, French), noun, plural) of a noun with determiner, often an adjective."""
        noun = self.draw.choice([n for n in NOUNS if n.kind in kinds])
        plural = self.draw.random() < 0.3
        english, french = noun.plural() if plural else (noun.english, noun.french)
        if self.draw.random() < 0.4:
            adjective = self.draw.choice([a for a in ADJECTIVES if noun.kind in a.kinds])
            form = adjective.agreed(noun.gender, plural)
            english = f"{adjective.english} {english}"
            french = f"{form} {french}" if adjective.before else f"{french} {form}"
        determiner = self.draw.choice(determiners)
        return self._determined(determiner, english, french, noun.gender, plural), noun, plural

    def _determined(
        self, determiner: str, english: str, french: str, gender: str, plural: bool
    ) -> PAIR:
        if determiner == "possessive":
            whose = self.draw.choice(list(POSSESSIVES))
            masculine, feminine, several = POSSESSIVES[whose]
            own = masculine if gender == "m" or elides(french) else feminine
            return f"{whose} {english}", f"{several if plural else own} {french}"
        if determiner == "this":
            if plural:
                return f"these {english}", f"ces {french}"
            masculine = "cet" if elides(french) else "ce"
            return f"this {english}", f"{masculine if gender == 'm' else 'cette'} {french}"
        if determiner == "indefinite":
            if plural:
                # "de" before an adjective that precedes its noun
                first = french.split()[0]
                adjectives = {a.agreed(gender, plural=True) for a in ADJECTIVES if a.before}
                return f"some {english}", before(
                    "de", french
                ) if first in adjectives else f"des {french}"
            article = "an" if english[0] in "aeiou" else "a"
            return f"{article} {english}", f"{'un' if gender == 'm' else 'une'} {french}"
        if plural:
            return f"the {english}", f"les {french}"
        article = "le" if gender == "m" else "la"
        return f"the {english}", before(article, french)

    def subject(self) -> tuple[PAIR, str]:
        """((English, French), grammatical person) of a person who acts."""
        if self.draw.random() < 0.35:
            person = self.draw.choice(PERSONS)
            return (person, FRENCH_PERSONS[person]), person
        phrase, _, plural = self.noun_phrase(("person",))
        return phrase, "they" if plural else "he"

    def action(self) -> PAIR:
        """Somebody does something, did it or will do it; or does not."""
        (english, french), person = self.subject()
        verb = self.draw.choice(VERBS)
        tense = self.draw.choice(("present", "past", "past", "future"))
        negated = self.draw.random() < 0.2
        # "un" would become "de" after a negation; definite objects read better in both languages.
        determiners = ("definite", "this", "possessive") if negated else DETERMINERS
        (object_english, object_french), _, _ = self.noun_phrase(verb.objects, determiners)
        said = self._english_verb(verb, tense, person, negated)
        french_verb = self._french_verb(french, verb.conjugated(tense, person), negated)
        english = f"{english} {said} {object_english}"
        french = f"{french_verb} {object_french}"
        if self.draw.random() < 0.5:
            time_english, time_french = self.draw.choice(TIMES[tense])
            return f"{english} {time_english}", f"{french} {time_french}"
        return english, french

    @staticmethod
    def _english_verb(verb: Verb, tense: str, person: str, negated: bool) -> str:
        third = person in ("he", "she")
        if tense == "future":
            return f"will {'not ' if negated else ''}{verb.english}"
        if tense == "past":
            return f"did not {verb.english}" if negated else verb.past
        if negated:
            return f"{'does' if third else 'do'} not {verb.english}"
        return verb.third() if third else verb.english

    @staticmethod
    def _french_verb(subject: str, verb: str, negated: bool) -> str:
        if negated:
            first, _, rest = verb.partition(" ")
            return f"{subject} {before('ne', first)} pas {rest}".rstrip()
        return before(subject, verb) if subject == "je" else f"{subject} {verb}"

    def description(self) -> PAIR:
        """Something is, or was, of some quality."""
        (english, french), noun, plural = self.noun_phrase(ANYTHING)
        adjective = self.draw.choice([a for a in ADJECTIVES if noun.kind in a.kinds])
        person = "they" if plural else "he"
        past = self.draw.random() < 0.4
        is_english = ("were" if plural else "was") if past else ("are" if plural else "is")
        is_french = WERE[person] if past else BE[person]
        form = adjective.agreed(noun.gender, plural)
        if self.draw.random() < 0.3:
            return (
                f"{english} {is_english} very {adjective.english}",
                f"{french} {is_french} très {form}",
            )
        return f"{english} {is_english} {adjective.english}", f"{french} {is_french} {form}"

    def place(self) -> PAIR:
        """Somebody or something is somewhere."""
        there = self.draw.random() < 0.5
        determiners = ("indefinite",) if there else DETERMINERS
        (english, french), _, plural = self.noun_phrase(("person", "animal", "thing"), determiners)
        (where_english, where_french), _, _ = self.noun_phrase(("place",))
        preposition = self.draw.choice(PREPOSITIONS)
        french_place = with_preposition(preposition[1], where_french)
        place = f"{preposition[0]} {where_english}", french_place
        if there:
            return (
                f"there {'are' if plural else 'is'} {english} {place[0]}",
                f"il y a {french} {place[1]}",
            )
        return (
            f"{english} {'are' if plural else 'is'} {place[0]}",
            f"{french} {'sont' if plural else 'est'} {place[1]}",
        )

    def question(self) -> PAIR:
        """Does somebody do something?"""
        person = self.draw.choice(PERSONS)
        verb = self.draw.choice(VERBS)
        (object_english, object_french), _, _ = self.noun_phrase(verb.objects)
        tense = self.draw.choice(("present", "past", "future"))
        helper = {"future": "will", "past": "did"}.get(
            tense, "does" if person in ("he", "she") else "do"
        )
        clause = self._french_verb(FRENCH_PERSONS[person], verb.conjugated(tense, person), False)
        asked = f"est-ce qu'{clause}" if clause[0] in VOWELS else f"est-ce que {clause}"
        return f"{helper} {person} {verb.english} {object_english}", f"{asked} {object_french}"

    def sentence(self) -> PAIR:
        """One sentence with capital and full stop."""
        kind = self.draw.choice(("action", "action", "action", "description", "place", "question"))
        english, french = getattr(self, kind)()
        marks = (" ?", "?") if kind == "question" else (".", ".")
        french = french.replace("pomme-de-terre", "pomme de terre").replace(
            "pommes-de-terre", "pommes de terre"
        )
        return capital(english) + marks[1], capital(french) + marks[0]


def capital(text: str) -> str:
    """The text with a capital first letter."""
    return text[0].upper() + text[1:]


def sentences(seed: int) -> Iterator[PAIR]:
    """Distinct (English, French) sentences, without end; no English sentence comes twice."""
    grammar, seen = Grammar(seed), set()
    while True:
        pair = grammar.sentence()
        if pair[0] not in seen:
            seen.add(pair[0])
            yield pair
