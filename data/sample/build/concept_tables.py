"""The hand-made part of choosing concepts: names that follow no rule, and what is left out and why."""


def _labels(text: str) -> tuple[str, ...]:
    return tuple(" ".join(label.split()) for label in text.split(","))


# FxEmoji names most of its icons after the Unicode name run together ("BLACK SCISSORS" -> "blackscissors").
# These are the others, found by looking at them: label -> name of the icon.
FXEMOJI_NAMES: dict[str, str] = {
    "face with tears of joy": "grintears",
    "smiling face with heart-eyes": "hearteyes",
    "winking face": "winking",
    "loudly crying face": "loudlycrying",
    "sleeping face": "sleeping",
    "face with medical mask": "medicalmask",
    "smiling face with sunglasses": "sunglasses",
    "sunglasses": "darksunglasses",
    "keyboard": "wiredkeyboard",
    "smiling face with halo": "halo",
    "face screaming in fear": "screamfear",
    "enraged face": "pouting",
    "see-no-evil monkey": "monkeysee",
    "hear-no-evil monkey": "monkeyhear",
    "speak-no-evil monkey": "monkeyspeak",
    "pile of poo": "poo",
    "skull and crossbones": "blackskullcrossbones",
    "heart with arrow": "heartarrow",
    "heart with ribbon": "heartribbon",
    "two hearts": "2hearts",
    "yellow heart": "heartyellow",
    "green heart": "heartgreen",
    "purple heart": "heartpurple",
    "sweat droplets": "sweatsplash",
    "thought balloon": "thoughtbaloon",
    "OK hand": "aok",
    "raising hands": "high5",
    "clapping hands": "clap",
    "folded hands": "pray",
    "flexed biceps": "flexbicep",
    "writing hand": "leftwritinghand",
    "dog": "dogside",
    "dog face": "dog",
    "cat": "catside",
    "cat face": "cat",
    "tiger": "tigerside",
    "tiger face": "tiger",
    "leopard": "leopardside",
    "pig": "pigside",
    "pig face": "pig",
    "pig nose": "pigsnout",
    "mouse": "mouseside",
    "mouse face": "mouse",
    "hamster": "hampster",
    "rabbit": "bunnyside",
    "rabbit face": "bunny",
    "dragon": "dragonside",
    "dragon face": "dragonhead",
    "front-facing baby chick": "frontfacingchick",
    "spouting whale": "spurtingwhale",
    "evergreen tree": "evergreen",
    "fallen leaf": "fallingleaf",
    "leaf fluttering in wind": "leaffluttering",
    "hot pepper": "chilipepper",
    "chestnut": "acorn",
    "fish cake with swirl": "fishcakeswirl",
    "fork and knife with plate": "forkknife",
    "globe showing Americas": "americasglobe",
    "globe with meridians": "meridianglobe",
    "snow-capped mountain": "snowmountains",
    "beach with umbrella": "beachumbrella",
    "Tokyo tower": "toykotower",
    "racing car": "racecar",
    "bullet train": "highspeedtrainbulletnose",
    "mantelpiece clock": "manltepiececlock",
    "hourglass not done": "hourglassflowingsand",
    "sun": "sunrays",
    "cloud with lightning": "stormcloud",
    "cloud with rain": "raincloud",
    "cloud with snow": "snowcloud",
    "sun behind rain cloud": "sunraincloud",
    "high voltage": "bolt",
    "water wave": "wave",
    "confetti ball": "confetti",
    "ribbon": "bow",
    "wrapped gift": "present",
    "reminder ribbon": "reminder",
    "tennis": "tennisball",
    "mahjong red dragon": "mahjong",
    "necktie": "tie",
    "t-shirt": "mansshirt",
    "woman’s clothes": "womansshirt",
    "purse": "pinkwallet",
    "clutch bag": "makeupbag",
    "man’s shoe": "mensshoe",
    "running shoe": "mensrunner",
    "high-heeled shoe": "heels",
    "woman’s sandal": "sandals",
    "woman’s boot": "boot",
    "gem stone": "gem",
    "bell with slash": "bellcancellation",
    "speaker high volume": "speaker3soundwaves",
    "studio microphone": "studiomic",
    "control knobs": "controlknob",
    "mobile phone": "cellphone",
    "telephone receiver": "telephonereceiver2",
    "floppy disk": "blackhardshellfloppy",
    "video camera": "handheldvideocamera",
    "videocassette": "videocasette",
    "magnifying glass tilted left": "leftmagnifyingglass",
    "dollar banknote": "banknotedollar",
    "outbox tray": "outbox",
    "closed mailbox with raised flag": "closedmailboxraised",
    "open mailbox with lowered flag": "openmailboxlowered",
    "ballot box with ballot": "ballottboxwithballott",
    "pen": "lowerleftpen",
    "chart increasing": "chartupwardstrend",
    "chart decreasing": "chartdownwardstrend",
    "locked with key": "lockandkey",
    "bookmark tabs": "bookmarktab",
    "notebook with decorative cover": "notebookdecorativecover",
}

# Kinds that are left out whole: signs, plain letters, arrows, buttons and squares say their own name or none,
# and people differ by clothes, hair or gesture where one artist's "person" is the other's "woman".
SKIPPED_SUBGROUPS = frozenset(
    _labels(
        """
        skin-tone, hair-style, person, person-gesture, person-role, person-activity, person-resting, family,
        transport-sign, warning, arrow, religion, zodiac, av-symbol, gender, math, punctuation, currency,
        other-symbol, keycap, alphanum, geometric, flag, country-flag, subdivision-flag
        """
    )
)

# Kept of these kinds all the same: nobody mistakes them.
KEPT_ANYWAY = frozenset({"baby", "woman dancing", "recycling symbol", "check mark button"})


# Left out one by one: reason -> labels.
SKIPPED_LABELS: dict[str, tuple[str, ...]] = {
    "a moon phase, told from its neighbours by the edge of a shadow": _labels(
        """
        new moon, waxing crescent moon, first quarter moon, waxing gibbous moon, waning gibbous
        moon, last quarter moon, waning crescent moon, last quarter moon face
        """
    ),
    "a house that looks like the next house": _labels(
        """
        houses, house with garden, office building, Japanese post office, post office, bank,
        love hotel, department store
        """
    ),
    "a train, tram or cable car that looks like the next one": _labels(
        """
        train, light rail, station, tram car, high-speed train, mountain railway, suspension
        railway, aerial tramway, trolleybus, sport utility vehicle
        """
    ),
    "a sheet, book, folder or calendar that looks like the next one": _labels(
        """
        page with curl, page facing up, ledger, bookmark tabs, notebook with decorative cover,
        tear-off calendar, spiral calendar, open file folder, card index dividers, card file
        box, spiral notepad, incoming envelope, inbox tray, open mailbox with lowered flag
        """
    ),
    "the same thing twice with a small addition": _labels(
        """
        camera with flash, film projector, linked paperclips, locked with pen, hourglass not
        done, speaker low volume, musical notes, umbrella with rain drops, ticket, camping,
        bathtub, sun behind large cloud, front-facing baby chick, pen, black nib, computer disk,
        dvd, growing heart, revolving hearts, heart decoration, sparkling heart, heart suit,
        rat, sparkler, sunset, cityscape at dusk, rosette, white flower, horizontal traffic
        light, woman’s clothes
        """
    ),
    "close to another concept, or the same thing from another side": _labels(
        """
        oncoming bus, oncoming police car, oncoming taxi, oncoming automobile, minibus,
        articulated lorry, railway car, sunrise over mountains, whale, ox, hamster, camel, round
        pushpin, old key, clutch bag, loudspeaker, e-mail, clinking beer mugs, sun behind rain
        cloud, mouse face
        """
    ),
    "told from its neighbours by colour only, and one artist draws in black": _labels(
        """
        yellow heart, green heart, purple heart, green book, blue book, orange book
        """
    ),
    "few people could name it": _labels(
        """
        level slider, control knobs, pager, trackball, clamp, card index, fax machine, label,
        moon viewing ceremony, pine decoration, tanabata tree, oden, rice cracker, sheaf of
        rice, teacup without handle, outbox tray, closed mailbox with raised flag, ballot box
        with ballot, convenience store, stadium, classical building, national park, foggy,
        cityscape, desert, night with stars, flower playing cards, herb, sake, milky way,
        optical disk, videocassette, file cabinet, barber pole, wind chime, carp streamer,
        mahjong red dragon, bookmark, dango, admission tickets, film frames, postal horn,
        construction, reminder ribbon, wedding, cyclone
        """
    ),
    "a speech bubble or plain letters": _labels(
        """
        left speech bubble, right anger bubble, speech balloon, ZZZ
        """
    ),
    "one artist drew another thing, or the drawing is broken": _labels(
        """
        boar, water pistol, fog, seat, nail polish, smiling face, hole, scroll
        """
    ),
    "one artist drew only the face, so that it cannot be told from the same animal's face": _labels(
        """
        dog, cat, tiger, pig
        """
    ),
}
