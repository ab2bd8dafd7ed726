"""The wordings that the census of behaviours knows, each for one place in the structure of a text.

All are for lower-case text with plain operators (`equations.normalise`). Of two repetitions, one inside the other, one
has a bound.
"""

from __future__ import annotations

import re

from extrabitter.tasks.countdown.arithmetic import SMALL_NUMBERS


def _phrases(alternatives: str, after: str = r"\b") -> re.Pattern[str]:
    """Compile alternatives, each from the beginning of a word; `after` is what has to follow."""
    return re.compile(rf"\b(?:{alternatives}){after}")


def number_pattern(number: int) -> str:
    """Return a pattern of a number that stands alone."""
    return rf"(?<![\d.])0*{number}(?![\d.]*\d)"


_TOO = "too (?:big|large|high|small|low|much|little|far|great|many|few)"
_SEEK = r"(?:want|need|after|look|requ|seek|sought|desire)\w*"
_CLAUSE_END = r"(?=[.,;!]| *$)"

# Verification: what stands behind a value that was reached.
TARGET_IN_WORDS = (
    rf"(?:(?:the|our|my) (?:target|goal|number)|what (?:we|i|you|was|is|they)\b[^.,;\n]{{0,20}}\b{_SEEK}"
    "|(?:desired|required|requested|wanted|target|goal) (?:value|number|result|total)"
    r"|(?:number|value|result|total) (?:that )?(?:we|i|you|they|was|is)\b|\b(?:target|goal)\b)"
)
RELATION = re.compile(
    r"\b(?:is|was|are|be|equals?|match\w*|reach\w*|hits?|than|agrees?|which|not|exactly|precisely|same|short|from|over"
    r"|under|above|below|past|beyond|says?|needs?|wants?|seek|after|but|still|give|away|off|asks?|asked|agrees?"
    r"|ordered|demanded|requested|wished|same|equal|tall(?:y|ies)|there)\b|n't\b|'s\b|[=≠<>]"
)
IN_APPOSITION = re.compile(r"[ ,(]*(?:just |exactly |precisely )?(?:the |our )?")
VERDICT = re.compile(
    r"\b(?:nope|nah|wrong|incorrect|fail(?:s|ed|ure)?|miss(?:es|ed)?|overshoot\w*|overshot|undershoot\w*|exceed\w*"
    rf"|falls? short|{_TOO}|off by|over by|under by|short by|out by|nowhere near|not (?:even )?close"
    r"|over(?:shoots?|shot|runs?|ran) (?:\w+ ){0,3}by|far (?:beyond|above|below|off|from)"
    "|miles (?:off|out|past|away|over|above|below)|no good|no luck|not (?:it|right|quite|correct|enough|what)"
    "|isn't (?:it|right|enough|correct)"
    "|(?:doesn't|does not|didn't|did not|won't|not going to) (?:work|match|equal|fit|reach|hit|help|give)"
    "|works(?! (?:back|out|from|up))|worked(?! (?:back|out|from|up))|correct|right on|spot on|matches|bingo"
    "|bullseye|success(?:ful)?|perfect|exact(?:ly)?|precisely|checks out|holds|agrees|bang on|tall(?:y|ies)|dead on"
    "|there (?:it is|you are|we are|we go)|same (?:number|both)|sound|which is it|that's it|that is it"
    "|is precisely it|as (?:required|desired|needed|wanted|expected|hoped|asked|ordered|demanded|requested)"
    r"|(?<!take )(?<!taking )(?<!knock )(?<!takes )"
    r"(?:\d{1,6}|one|two|three|four|five|six|seven|eight|nine|ten|a few|way) "
    r"(?:too|over|under|above|below|short|off(?! (?:the|my) )|away|shy|more than|less than|bigger than|larger than"
    rf"|smaller than))\b|(?<![a-z]) no{_CLAUSE_END}|^ *(?:not|no|nope)\b(?: [a-z]+){{0,4}} *[.!]"
)
# "whether it is correct", "the correct answer": no verdict on what was reached.
HOPED = re.compile(r"\b(?:if|whether|make sure|ensure|until|hope|unless|should be|to be)\b[^.\n]{0,60}$")
ARTICLE = re.compile(r"\b(?:the|a|an) $")
OF_AN_ANSWER = re.compile(r" (?:answer|expression|solution|combination|order|way|operations?|one)\b")
# "b = a - 6 = 36": the result of what is no equation here
RESULT_OF = re.compile(r"[-+*/] {0,3}[\w.]{1,12}\)? {0,3}(?:=|->) {0,3}$")
ANSWERS = _phrases("answer|expression|solution|equation|formula|therefore|hence")
LOOKING_BACK = _phrases("wanted|needed|expected")
MARK = re.compile(
    r"[ ,.;]{0,4}(?:[✓✔✅✗✘❌☑]|[(\[]? ?(?:x|ok|yes|no|pass|fail|hit|miss|good|bad|right|wrong|true|false"
    r"|correct|incorrect) ?(?:[)\].]|$|\n))"
)
CHECKING = _phrases(
    "re-?check|check|verif|confirm|re-?count|count|re-?calc|re-?comp|prov|assert|again|really|sure|indeed|repeat"
    "|certain",
    after=r"\w*",
)
# "46, no, 48"
CORRECTED = re.compile(
    r"[ ,.;]{0,4}(?:(?:no|wait|sorry|oops|rather|i mean|actually|hmm|should be|make that|it's|that's|it is)[ ,.]{0,3})"
    r"{1,3}(\d{1,6})\b"
)

# "seven wide of it", "variance +17": what stands around the distance by which an attempt missed.
APART = re.compile(
    r"\b(?:too|over\w*|under\w*|above|below|short|off|away|by|high|low|light|heavy|wide|shy|past|far|beyond|behind|ahead"
    r"|adrift|apart|gap|miss\w*|differ\w*|delta|error|variance|excess|lacking)\b|[-+±]$"
)
SMALL_NUMBER = re.compile(rf"\b(?:{'|'.join(SMALL_NUMBERS)})\b|(?<![\d.])\d{{1,6}}(?![\d.]*\d)")

# Backtracking: what stands between two computations.
GIVEN_UP = _phrases(
    r"no|nope|nah|not|wrong|incorrect|fail\w*|isn't|doesn't|does not|didn't|won't|can't|cannot|discard\w*|scrap\w*"
    r"|und(?:o|id|oes|one)|delet\w*|eras\w*|rubb?(?:ed|ing)?(?: \w+)? out|cross(?:ed|ing)?(?: \w+)? out"
    r"|str(?:ike|iking|uck|ikes)\b|wip(?:e|ed|ing)|retract\w*|revers(?:e|ed|ing)|clear(?:ed)?|replay\w*"
    r"|tak(?:e|ing|en)(?: \w+)? back|takeback|t(?:ear|ore|orn)(?: \w+)? up|leave (?:that|it|this|them)"
    "|(?:don't|do not|won't|will not) (?:continue|go on|carry on|like|fancy)|la(?:y|id) (?:this|that|it) (?:by|aside)"
    r"|set (?:this|that|it) aside|left (?:that|it|this)|drop\w*|reject\w*|abandon\w*|forget|ditch\w*|prun\w*"
    r"|giv(?:e|ing) up|dead end|instead|another|alternativ\w*|start(?:ing)? over|square one|try (?:again|something)"
    r"|retry|go(?:ing)? back|backtrack\w*|back up|back to|, back|reconsider|rethink|mov(?:e|ing) on|switch\w*|swap\w*"
    rf"|rather|different|overshoot\w*|exceed\w*|{_TOO}|out of|is out|stuck|unused|second thoughts?|never mind"
    "|other way|u-turn|turn(?:ing)? (?:a)?round|better"
    "|(?:draft|pass|case|attempt|try|option|candidate|idea|plan|route|version|take|entry|leg) (?:2|3|two|three|b|c)"
    "|(?:second|third|next|new) (?:draft|pass|case|attempt|try|option|candidate|idea|plan|route|go|shot|leg|line)"
    "|(?:start|work|begin|go) (?:again )?from the (?:end|target|goal|other)"
)
INSTEAD = re.compile(r"[^.\n]{0,12} instead\b")

# Subgoals: what stands around a number that is not reached yet.
_MAKING = (
    "(?:mak(?:e|ing)|get(?:ting)?|reach(?:ing)?|obtain(?:ing)?|form(?:ing)?|build(?:ing)?|produc(?:e|ing)"
    "|creat(?:e|ing)|deliver|find(?:ing)?|set(?:ting)? up|become|hit|com(?:e|ing) (?:to|up with)|arriv(?:e|ing) at"
    "|track(?:ing)? down|giv(?:e|ing)|construct(?:ing)?|land(?:ing)? on|stand at|hav(?:e|ing))"
)
_INTENT = (
    "(?:to|can|could|must|should|shall|will|would|i'll|we'll|let's|let me|want|wanna|gotta|try|try and|need|have to"
    "|has to|had to|if (?:i|we)|first|which|what|who|how|ways? of|numbers)"
)
# "a 21 round the corner", "find me another 16": an article stands in front of a value that is wished for.
ARTICLE_BEFORE = re.compile(r"\b(?:an?|another) (?:(?:nice|round|spare|little|good|handy|clean|single) )?$")
# "a 10 minute break", "about 6 ways": what is counted is no value to make.
COUNTED = re.compile(
    r" ?(?:minutes?|hours?|seconds?|days?|percent|%|steps?|digits?|numbers?|ways?|times|pieces?|options?|tries"
    r"|attempts?|operations?|possibilit\w+|combinations?|expressions?|cases?)\b|%"
)
# "something like 48", "say 70 or so"
ROUGHLY = re.compile(
    r"\b(?:about|around|near(?:ly)?|roughly|close to|like|say|somewhere|approximately|towards?|up to|a round) $"
)
OR_SO = re.compile(r" (?:or so|or thereabouts|-?ish|mark\b)|ish\b")
DECADE = re.compile(
    r"\b(?:in|into|to|around|about|for)(?: the)?(?: low| mid| high| middle| upper| lower)? "
    r"(?:twenties|thirties|forties|fifties|sixties|seventies|eighties|nineties)\b"
)
_AIM = (
    r"(?:aim\w*|goal|subgoal|sub-goal|first target|waypoint|stepping stone|intermediate|need\w*|want\w*|wanna"
    r"|look\w* for|go(?:ing)? for|after (?:a|an|the)|hunt\w* for|gimme|give me|find(?: me)?|grab|produce|procure"
    "|establish|sought|sub-?target|milestone|lemma|(?:suffices|remains) to|would like|in search of|seek(?:ing)?"
    "|(?:going|go|am|i'm|we're) after|must be|has to be|have to be|requires?|(?:i|we) had)"
)
NAMES_A_GOAL = re.compile(
    rf"(?:\b{_INTENT}\b[^.\d\n]{{0,24}}|(?:^|[:;,]) *)\b{_MAKING}\b[^.\d\n]{{0,20}}$|\b{_AIM}\b[^.\d\n]{{0,30}}$"
)
# "I need a stepping stone. Here it is 48."
NAMED_A_GOAL = re.compile(
    r"\b(?:goal|subgoal|waypoint|stepping stone|intermediate (?:value|result|number|target))"
    r"\b[^.\d\n]{0,20}[.:] [^.\d\n]{0,12}\b(?:it's|it is|is|be) $"
)
IS_A_GOAL = re.compile(
    r"[^.\d\n]{0,30}\b(?:first|to be (?:made|built|found|constructed))\b"
    r"|(?: is|'s)? (?:left|needed|wanted|required) ?(?:\.|,|$)"
)
# "Multiply 7 by 12 to get 84" announces a step.
OPERATING = re.compile(
    r"\b(?:multipl\w*|add(?:ing|ed)?|sum(?:ming)?|subtract\w*|divid\w*|doubl\w*|product|sum|difference|quotient)\b"
    r"[^.\n]{0,40}\d"
)
NEAR = re.compile(
    r"\b(?:first|want|wanna|like|let me|let's|try|aim|will|i'll|going|should|start|begin)\b[^.\n]{0,40}"
    r"\b(?:close|closer|near|nearer|around|roughly|neighbourhood|neighborhood|vicinity|ballpark)\b[^.\n]{0,20}$"
)

# Backward chaining: what stands around a number that is one step before the target.
SUPPOSED = _phrases(r"if|so that|because|since|as|then|need\w*|would|had|before|for")
WORKS_BACK = _phrases(
    r"take|taking|subtract\w*|minus|less|divid\w*|half|halv\w*|twice|double|times|more than|less than|factor\w*"
    r"|undo\w*|revers\w*|backward\w*|last|final\w*|must|leaves?|left|if|what|need\w*|so that|because|since|way of|from"
)
THE_END = r"\b(?:target|goal|last|final|end)\b"
DISTANCE = re.compile(r" (?:too|over|under|above|below|short|off|away|more|less)\b")
# "target - 14 = 45", "dividing the target by 2", "take 14 from the goal"
TARGET_IN_SUM = re.compile(
    r"\b(?:the )?(?:target|goal)(?= {0,3}[-+*/×÷−] {0,3}\d| by \$?\d)|(?<=\d from )the (?:target|goal)\b",
    re.IGNORECASE,
)
