"""The most frequent function words of the languages that share an alphabet; a word may stand in several lists.

Words only; `language` uses them. A missing word costs time; a word of another language costs a correct result.
"""

from __future__ import annotations

_FREQUENT_WORDS = {
    "ar": "في من على إلى عن مع هذا هذه ذلك التي الذي الذين أن إن أو ثم لا لم لن ما كما كان كانت "
    "قد بعد قبل بين كل أي هو هي وهو وهي حتى عند إذا غير حيث ولا وقد خلال أيضا تم يتم ومن مثل دون "
    "بها أنها حول منها لها به فيها عليها و لكن فقط عليه",
    "be": "і у ў на не што як з да гэта гэты але ці каб для па пры ад яго яна ён яны быў была "
    "было быць ёсць толькі які якая якія або калі можа таксама пад вы мы ні",
    "bg": "и на да в се от за е с че са по не като или при към ще бъде това тази този които "
    "който което но може няма има ако чрез след както си ви бъдат така само между всички й ни",
    "ca": "de la i el que els les a en un una amb per es és del al dels als no si com més o però "
    "aquest aquesta són ser ha han pot seva seu també quan sobre entre aquests perquè fer ens "
    "tot hi ho",
    "cs": "a v se na je že s z do o k i ve pro za by jako jsou jeho ale si po který která které "
    "nebo být od tak jen při bude není to podle než také aby když pokud může kde pouze více jsem "
    "bez této tento nejsou byl byla ze její každý žádný ani těchto musí mohou vždy proti mezi má "
    "jej ještě však kterou další jeden jedna",
    "da": "og i at det er en til af på den for med de ikke der som et har du kan vil men fra "
    "eller om så hvis skal var ved blive bliver når efter hvor også denne dette disse din mere "
    "alle kun ingen nogle uden ud hvad hvordan mellem være været gør nu flere måde bruges brugt "
    "hvilken hun han enhver sig noget se man sin ad al samt skulle kunne ville havde andre "
    "hvilke hos",
    "de": "der die und das in den von zu ist des mit dem ein eine für auf im nicht sich auch als "
    "an es werden oder wird bei einer einem einen sind aus wie kann nach dass zum zur um wenn "
    "durch dieser diese dieses über nur noch sie ich wir ihr er man aber haben hat war am vor "
    "falls keine",
    "en": "the of and to a in is that for on with as it be are by this an or from at you not can "
    "if your which we what how these only using cannot have has will was when they their its "
    "also all any one no but so do been were more other than there such may should would into "
    "same some about just now",
    "es": "de la que el en y a los las un una se del por con no para es al lo como más o su sus "
    "pero este esta está son ser si ha cuando también entre muy sobre puede pueden esto hay "
    "desde donde sin fue le nos esté cada ni cuyo les ese toda todo tiene ante bajo dos",
    "et": "ja on ei et ka see kui või mis oma ning selle seda aga nii ta kes siis nagu saab "
    "välja peab ole pole oli mida veel ainult kuid mille need igal olema tema sest enne pärast",
    "fa": "و در به از که این را با است برای آن یک تا خود شده می‌شود بر یا هم شود نیز ها های کرد "
    "کند بود اما باید هر اگر می‌کند شد دارد می‌توان شما ما دیگر پس دو همه بین همچنین چه بعد خواهد",
    "fi": "ja on ei että se joka tai kun myös ovat mutta niin ole kuin jos tämä sen oli hän ne "
    "voi voidaan sekä jotka tämän mukaan vain kanssa olla sitä siitä jokaisella käyttää mitä "
    "nämä jossa en jo jokainen näytä kaikki vaan eivät ettei siis siihen sille toimi tulee jokin "
    "käyttö ennen missä",
    "fr": "de la le et les des en un une du est que pour dans qui par sur pas au plus ne se ce "
    "avec il sont ou vous nous cette aux être si mais peut ces son sa ses leur comme tout tous a "
    "été ont votre même à où elle",
    "hi": "के में है की से का को और ने पर कि यह हैं एक लिए इस भी हो नहीं तो था जो कर या थी गया "
    "अपने उस वह किया जाता करने तक साथ इसके किसी सकते करें बाद थे जा अन्य",
    "hr": "i u je na se da za su od s sa a o iz kao ne ili koji koja koje će što ako nije biti "
    "bi po može ali do kako te samo prema bez kod jer sve gdje kada nisu ima zbog ovo ova "
    "također svaki ovog ovom svih tako još između nakon tijekom njih svoju svakog svatko nitko "
    "pod",
    "hu": "a az és hogy nem is egy ha vagy van ez azt csak de ki meg még már ezt mint lehet "
    "minden kell amely el volt után között ami ezek akkor nincs által sem való pedig illetve be "
    "olyan szerint aki ennek annak nélkül ehhez vannak senki joga lesz hanem ne mi más",
    "id": "yang dan di untuk dengan ini dari pada dalam tidak adalah atau akan dapat itu ke oleh "
    "anda sebagai juga jika bisa ada lebih telah karena harus setiap hanya seperti saat tersebut "
    "secara bahwa mereka kami para menjadi namun agar sehingga tetapi dilakukan digunakan bagi "
    "kepada yaitu per",
    "it": "di e il la che un in per una è del con non le si da i della sono al alla dei come o "
    "nel più gli lo dal anche delle se ma questo questa essere ha può nella dalla degli su tra "
    "quando ad sia viene ogni",
    "kk": "және мен бұл үшін да де бар деп бір осы сол оның ол болып бойынша керек емес немесе "
    "әр туралы жоқ егер кейін болады арқылы барлық бен пен тиіс ғана басқа үлкен өз",
    "lt": "ir yra į iš kad su ar tai ne kaip o už apie jis buvo būti jei taip pat bet gali tik "
    "dėl nuo iki šis jų kurie kuris arba turi prie po savo jo nėra be visi tokia kai",
    "lv": "un ir ar no uz par kas ka lai kā vai to arī nav tas pēc tiek bet pie ja var gan šo "
    "tika bija kuru savu viņa līdz tā šī jums jābūt bez",
    "mk": "и на во да се од за е со не што ќе ги го како ја или но по ако може до тоа кои која "
    "кој има ова оваа овој нема при бидат биде сите кога само нив",
    "mr": "आहे आणि या व हे ते की होते तर हा ही आहेत त्या होता असे नाही त्यांच्या साठी मध्ये आपण "
    "येथे किंवा केले केला एक पण जर त्याच्या तसेच करून याचा असलेल्या होती प्रत्येक च्या याने "
    "कोणत्याही त्याला त्याचा झाले करण्यात असा अशा",
    "nb": "og i er det på som en til for av at med de den et ikke har du kan om vil fra eller "
    "men så hvis skal var ved bli blir når etter hvor også denne dette disse din mer alle bare "
    "ingen noen uten ut mot enn seg slik noe hva hvordan mellom være vært gjør nå flere måte "
    "brukes brukt hvilken hun han enhver sine se man sin samt skulle kunne ville hadde andre "
    "hvilke hos",
    "nl": "de van een het en in is dat te op voor met zijn niet aan die er om ook als bij of "
    "door wordt naar dan maar worden kan uit nog deze dit u je wij hun heeft moet tot geen wat "
    "over meer zal waar tussen hij alle we dus hebben hoe",
    "pl": "w i na z się do nie jest to że o jak za od po dla przez lub są ale może być jego oraz "
    "tym co tylko ten ta tego jeśli czy przy który która które gdy można także już ma bez ze tej "
    "jako aby więc pod no a",
    "pt": "de a o que e do da em um para com não uma os no se na por mais as dos como mas ao das "
    "seu sua ou ser quando muito nos já também pelo pela até isso este esta são tem foi você "
    "está à pode sem às esse essa",
    "ro": "de și în a la cu pe este să din care nu pentru un o că mai ce sau se dacă fi al ale "
    "ca sunt fost prin acest această după lui poate dar fiecare când lor nici orice asupra între "
    "astfel unei unui până",
    "ru": "и в не на что с по как это для из к от но у или если то же бы за так его он она они "
    "только может чтобы при быть все был является также есть до этого этот уже где когда вы мы "
    "который которые без можно будет нет было были этой этом таких того том себя под над между "
    "после перед через во со об него ей им их чем нужно более а о либо лишь однако например "
    "таким могут",
    "sk": "a v sa na je že s z do o k i vo pre za by ako sú jeho ale si po ktorý ktorá ktoré "
    "alebo byť od tak len pri bude nie to podľa než tiež aby keď ak môže kde iba viac som bez "
    "tejto tento nemá má každý zo ani jej týchto musí môžu vždy proti medzi",
    "sl": "in je v na se za da ki so z s pri ne tudi po ali kot od bi pa še to ni lahko če o do "
    "ima biti med bo kjer ko ker ter vse brez kakor mora sta bil kar samo zaradi nad",
    "sq": "të e në dhe i për me që një nga është se nuk si ka ose do më këtë kjo ky janë por "
    "duke kur mund edhe vetëm tij saj pas së çdo këto duhet pa ndërsa ndaj",
    "sr": "и у је на се да за су од с са а о из као не или који која које ће што ако није бити "
    "би по може али до како те само према без код јер све где када нису има због ово ова овај "
    "сваки овог овом свих тако још између након током њих њего своју сваког одређене под ову",
    "sv": "och i att det som en på är av för med den till inte om ett har de kan du var från så "
    "men eller ska vid även när efter denna detta dessa finns blir också där alla din mer inga "
    "någon utan ut än hur vara måste varje mellan vad varit många samt ange ingen inget sin man "
    "ha kommer skall här",
    "tr": "ve bir bu için da de ile olarak olan daha çok en gibi veya ne her kadar ise sonra "
    "değil var o ancak tarafından göre hiçbir eğer tüm bütün mi hem iki şu içinde üzerinde "
    "olduğu karşı ya yok",
    "uk": "і в у на не що з до як для за це та але або від його при по є якщо чи то так може про "
    "бути він вона вони буде були був які який яка щоб цього цей також лише коли де ви ми без "
    "під із її має о перед через того ще над якого можуть",
    "ur": "کے کی میں ہے کا اور سے کو نے پر ہیں یہ کہ اس ایک بھی ہو تھا نہیں جو تو وہ کیا گیا ان "
    "لیے کر تھی تک ہی کسی یا اپنے جا ساتھ جاتا تھے ہوتا اگر آپ کرنے بعد کوئی",
    "vi": "là của và các cho có được trong một không với những người để khi này đã từ đó như về "
    "tại vào trên bạn hay hoặc nếu thì cũng sẽ nhiều phải ra đến theo nào bị sau mọi đều",
}

#: ISO 639-1 code → function words.
FUNCTION_WORDS = {language: frozenset(words.split()) for language, words in _FREQUENT_WORDS.items()}
