"""The letters of languages that had encodings of their own, the most frequent first.

Data only; `encoding_guess` uses it. The order of the first 25 is that of charset-normalizer.
"""

from __future__ import annotations

#: By ISO 639-1 code. Letters beyond the first 25 or so are rare, in any order.
LETTERS = {
    "ar": "اليمونرتبةعدسفهكقأحجشطصىخإذزغضثظءئآؤ",
    "be": "анітыркелосядувмзцпжгйьбшчюўхэфё",
    "bg": "аиоентрсвлкдпмзгяъубчцйжщхшюфь",
    "cs": "oeantsilvrkdumpíchzáyjběéřčšžýůúťďňgfóxwq",
    "da": "erntaisdlogmkfvubhpåyøæcjwéxzq",
    "de": "enirstadhulgocmbfkwzpvüäöjßyxqéà",
    "el": "ατοιενρσκηπςυμλίόάγέδήωχθύφβξώζψϊϋΐ",
    "es": "eaonsrildtcumpbgvfyóhqíjzáéñúxkwü",
    "et": "aiestlunokrdmvgpjhäbõüfcöyšžzx",
    "fa": "ایردنهومتبسلکشزفگعخقجآپحطصچغضذظثئءژیؤأ",
    "fi": "aintesloukämrvjhpydögcbfwzåšqx",
    "fr": "easnitrluodcpmévgfbhqàxèyjêçâîôûùëïœkwü",
    "he": "יוהלרבתמאשנעםדקחפסכגטצןזךףץ",
    "hr": "aioenrjstuklvdmpgzbcčhšžćfđxy",
    "hu": "eatlsnkriozáégmbyvdhupjöfcóőíúüűxw",
    "is": "anrietsulðgmkfvháíoþydóæöbpjéúýxc",
    "it": "eiaonltrscdupmgvfbzhqèàkyòùìéjw",
    "kk": "аыентрлідсмқкобиуғжңзшйпгөәүхұчцһэюяё",
    "lt": "iasoretnukmlpvdjgėbyųšžcąįūčęfhz",
    "lv": "aistenruomkpāldīvzējbgūcšņļžķčģfh",
    "mk": "аоиетнрсвдклпумзјгбчцшжхќфѓљњџ",
    "nl": "enairtodslghvmukcpbwjzfyxëéïèöü",
    "pl": "aioenrzwsctkydpmuljłgbhąęóżśćńfźvx",
    "pt": "aeosirdntmuclpgvbfhãqéçázíêõóúàâôxj",
    "ro": "eiarntulocsdpmăfvîgbșțzhâjşţxk",
    "ru": "оеаинтсрвлкмдпугяызбйьчхжцюшщфэёъ",
    "sk": "oaenirvtslkdmpuchjbzáyýíčéšžúľťôňďäóĺŕgf",
    "sl": "eaionrsltjvkdpmuzbghčcšžfyćđ",
    "sr": "аиоенрсуткјвдмплгзбцшчћжхљњђфџ",
    "sv": "eanrtsildomkgvhfupäcböåyjxéwzq",
    "th": "านรอก่เง้ยัมลีวิดทสตืะปบคหุแจู์พชขำใึไโ็ผถซธฐณฝภษศญฉฟๆฏฑฒฬฮฆฌฎ๊๋ฯ๐๑๒๓๔๕๖๗๘๙",
    "tr": "aeinrlıkdtsmyuobüşvgzhcpçğöfjâîi",
    "uk": "оаніирвтесклудмпзяьбгйчхцїжєюшщфґ",
    "ur": "ایرکےںوہتسمنلہدبپجعگشقچفٹھزصحطخڑضڈئءآغثذظژؤ",
    "vi": "nhticgaoumlràđsevpbyưdákộếạờượớầảấểóìợốữịềúứủồêòậãâéụõọùệẽíýỉăũẻ",
}
#: Frequent characters of languages with thousands of them.
CHINESE = (
    "的一是不了在人有我他这这個个們们中来來上大为為和国國地到以说說时時要就出会會可也你对對生能而子那得于於着著下自之年过過发發后後作里裡用道行所然家种種"
    "事成方多经經么麼去法学學如都同现現当當没沒动動面起看定天分还還进進好小部其些主样樣理心她本前开開但因只从從想实實"
)
JAPANESE = (
    "日一人年大十二本中長出三時行見月分後前生五間上東四今金九入学高円子外八六下来気小七山話女北午百書先名川千水半男西電校語土木聞食車何南万毎白"
    "会社国地方民部場合業事定法内手全明用発者対実政市自力理目体動代問度作議成化同経所"
)
KOREAN = (
    "이다에의는로하을가고지서한은기으년대사시를리도인스일어자정해라그전수나장주아보있구과제부상여원동만연공국들비성무조오소우된산것안"
    "간데면신유용중했였습니까니문회선학생계되않요물치화음을입력료확세개"
)
